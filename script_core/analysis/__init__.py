"""The mathematics behind the paper's figures and its first table, for one encoded picture.

plane        one crop or frame as a grid of unit vectors
locality     similarity against distance; neighbours against random pairs (Figure 3)
detail       local entropy against local similarity (Figure 4); redundancy masks (Figure 9)
preferences  which tokens four kinds of methods prefer (Figure 5)
bounds       determinant against average similarity, and which bounds hold (Figure 6)
estimation   exhaustive, bipartite and random redundancy (Table 1)
sweep        answers over budgets, and the smallest one that keeps the answer
edits        force tokens in or out, and ask again
"""
