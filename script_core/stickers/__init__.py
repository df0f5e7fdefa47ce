"""The embedded model's world: sticker scenes with exact answers, a language of 300 words, and how the model is trained.

`catalogue` what exists; `scenes` how it is arranged and drawn; `questions` and `clips` what is asked about it;
`language` how typed text becomes such a question.
"""
