"""English words that are one slip away from a word the model knows, and are no slips of it.

A mouse is not a house with a typing error, and a lamp is not a sheep: without this list the spelling correction would
answer about something else instead of saying that it does not know the word. It was found by running the correction
over SCOWL's small American and British lists (http://wordlist.sourceforge.net), whose notice is:

Copyright 2000-2011 by Kevin Atkinson. Permission to use, copy, modify, distribute and sell these word lists, the
associated scripts, the output created from the scripts, and its documentation for any purpose is hereby granted
without fee, provided that the above copyright notice appears in all copies and that both that copyright notice and
this permission notice appear in supporting documentation. Kevin Atkinson makes no representations about the
suitability of this array for any purpose. It is provided "as is" without express or implied warranty.
"""

from __future__ import annotations

REAL_WORDS: frozenset[str] = frozenset(
    """
    abject abode abuses aces acorn acre acts ages aide aids airline airs ales alto ample apes appeal applies apply area
    arms arose arse aside away axed axis axle ayes babe babied babier babiest bade bail bald bale balk ballet balm
    bandana bans bases bawl beads beds beef beer beet begs bench benches best bides bids bile bite bitten blame blare
    blast blaze blip block blot blow blued bluer blues blur boar bold bony boosts booths both bottoms bound bows brain
    brake brat breads break breast bred breed broad brook brunch brunches buck buckling buds buglers bugs bulb bulge
    bulk bums bunched bungle buns burgle burner bused bush bushes busies bust busy buts butterflied buys byes cabs cage
    calk calm camp cane canter card carp cart case cast castle caves centred centres chain chap char chat cheep cheery
    cheesed cheeses chid chile chili chill chipper chips choir chopped choppier chow clack clam clan clap classes
    cleaves cleft click clime clipt cloak closes closet cluck clue coal coast coat cobs cock cods coffer coin coke cold
    colon colours comes cons cook coos copper cords core cork corneas cornier corny coroner corset couch coup cove cover
    cower crap cress crow crumpet cubs cues cull czar danger dead deaf dearest deaves deck deft demon desk dike dime
    dine discos discus ditty dock doer doles dopes dote douse dove down dozes drain draping drawling dregs drench
    drenches dressed dresser dressy dross drug ducking duct dues dull dumber dunk duress dyes earl earn east eave egos
    eight ekes elegant enter epic eras errs ever eves eyes fair fake fall fans feast feat fellow felon ferry fiddle
    fight figs fine firs firsts fishy flak flank flash flip flog flower flue foam focal foes foggy foil fold fool foot
    ford foul found fowl free french fright from full funny fuses gall gape gaps garrot gasp gasses gave geld gets gigs
    gild gilt gist glade glassed glosses glower glue goads goal goat goes golf good goon grace grade grain gram graph
    grasses grate grave graze greed greens greet gripe grope grown gull guppy hales half hall halt halve hammed hamper
    hamster hard harems hark harm harp hatched haven hays hazes heady heals heaps heard hearths heave heeds heir herds
    hide hike hips hire hither hits hive hoarse hole homeys homie homy hook hoot hope hopper hops horde hornet hovel
    hover howl hued hull hunch hunches hurtle huts icicle imaged jamb jaws jest jigs jugs juts keen kegs kind kiss kits
    knifed labs laced lade lair lake lamp lane lapel laps lasses late laws leads leafy leak lean leap leases least leave
    leaved lefts lent lept lest lets libel lice lids life lifts light limp live loam loan locates lock locket loft look
    loot lord lose loser loth lots louse love lowed lows luck lugs lull lumber lunch lunches mace made male mall manes
    mangy manly maps mark mart mate math meat meddle mellow mere merry mettle middles might mike mime mine mire missive
    mitten moat mode mold mole month moot mope morns mottle mound mouse mouth moved moves mower mown mows muck muddle
    mull mums munch munches muses muss myth naps navel nearly neatest nest nets nett nettle newt nieces night nine noes
    nook nose nuder null numbed numbers oafs odes olden oranges oven overs overt owes owns paced paid pail pain palate
    pall pane pans pant parrot pate pave paws peak peal pearls peer pegs peony peps pets phoneys phonies phonograph
    photography photon piazza pick pictures piddle piece pieced pier pierces pike pile pine pipe placid plate plated
    played pliant plies pocket poky pond poppy pops porch pose positions posy pots pouch pound power pram preen press
    presses prevent pries prone prose puck pull pulp pump punch punches puns puny purpler purples puss puts rabbi rabies
    racket rags rain ramp range rasp rattle rave rays ready real ream reap receive received redo reds reed rend resent
    riddle ride rids rift rights rigs rims rise risk roach roads roam roast robe rock rocked rocker rode role rook
    rookie root rope rosy rote rots round rout rows rued rugs runny ruse sacs sags sake salon saloon same save sawn scan
    scanner scar scent scorn seal seam sect seed seek seem seep seer semen sent settle seven sewn sews shade shake shame
    shaves shear sheen sheer sheet sherries sherry shes shift shin shine shire shirk shoon shoos shopper shore shorn
    short shots shove showy sicker sided sides sidle sift sigh sight signs sing sips sire sitar site situate size skid
    skip skirt slant slat slate slay sleep slicker slide slime slips slow slower smears smug sneaked sneakier snicker
    snide snip snow soar socket soggy sold sole soon soot sore sorry sound sown spanned spar spat spay speaker spear
    speck spectacle spews spies spine spoof spook squarest squire stab stag stair stares starts stay steep stem stickier
    stickler stir stood stoop stop stow strain strainer struck strumpet suck suckling sunny supper swat swears sweat
    sweep swing swipe swoon sword take tall tans taps tattle taxes teak team tease teed teem teen thank thaw them theme
    then these they thin think thong thorn threes tide tight time ting toddle toddled toed toffee tomes took tool toot
    tops tost tots tout tower town tows track trail trailer trained trainee trait traitor tram trek trench trenches
    trick tries trolly trot truce true trumped trunk tryout tsar tugs twee tying udder upped uses vain vane vets videos
    vies vine violent vocation vows waft wait wake wall wallet wane want ward warp wart wary wash watt wave wavy waxes
    waxy ways weaves wets wheat wheres whet whine whip whopper wife wigs wince wind wing wink wipe wire wise wish wisp
    witty wive wizes woes wood wordy wore work world worm worry worse wound wove wows wrenched wretch wretches wright
    yaps yeast yellows yens yews your yous yuck zany
    """.split()
)
