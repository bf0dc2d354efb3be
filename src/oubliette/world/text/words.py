"""The words the text world is made of: parts of names, and the pools that values are taken from."""

from __future__ import annotations

GIVEN = [
    start + end
    for end in ("a", "en", "is", "or", "ith", "ell")
    for start in (
        "Al", "Bre", "Cor", "Da", "El", "Fen", "Gar", "Hes", "Il", "Jor", "Kel", "Lim",
        "Mar", "Nol", "Or", "Pel", "Quin", "Ros", "Sel", "Tam", "Ul", "Vor", "Wen", "Yar",
    )
]  # fmt: skip
FAMILY = [
    start + end
    for start in (
        "Ash", "Bram", "Cald", "Dray", "Emb", "Falk", "Grim", "Holt", "Iver", "Jask", "Kest", "Lorn",
        "Mast", "Nev", "Oster", "Pell", "Rusk", "Stav", "Thorn", "Umber", "Veyl", "Wick", "Yald", "Zell",
    )
    for end in ("mont", "by", "ow", "sen", "ley", "gard", "rick", "stead", "quist", "mere")
]  # fmt: skip
TOWNS = [
    start + end
    for start in (
        "Am", "Bel", "Cran", "Dor", "Esk", "Fyr", "Gal", "Har", "Isen", "Jun", "Kir", "Lan",
        "Mor", "Nar", "Ost", "Pol", "Rav", "Sil", "Tor", "Ulm", "Ver", "Wes", "Yor", "Zan",
    )
    for end in (
        "vale", "haven", "wold", "minster", "brook", "dale", "moor", "crest", "field", "gate", "holm",
        "strand",
    )
]  # fmt: skip
#: Two of these make the title of a work, one the nickname of a place.
NOUNS = [
    "Anchor", "Basket", "Candle", "Dagger", "Engine", "Feather", "Garden", "Hammer", "Island", "Jewel",
    "Kettle", "Ladder", "Mirror", "Needle", "Orchard", "Pebble", "Quarry", "Ribbon", "Saddle", "Thistle",
    "Urn", "Velvet", "Window", "Yarrow", "Acorn", "Bramble", "Compass", "Drum", "Echo", "Fountain",
    "Goblet", "Harbour", "Ivory", "Juniper", "Kiln", "Locket",
]  # fmt: skip
ADJECTIVES = [
    "Grey", "Quiet", "Golden", "Hasty", "Gentle", "Stern", "Merry", "Pale", "Brave", "Sleepy", "Clever",
    "Humble", "Proud", "Nimble", "Silent", "Wandering", "Lucky", "Frosty", "Ragged", "Noble", "Curious",
    "Patient", "Restless", "Faithful",
]  # fmt: skip
BIRDS = [
    "Sparrow", "Magpie", "Swallow", "Raven", "Finch", "Plover", "Kestrel", "Wren", "Thrush", "Curlew",
    "Starling", "Lapwing", "Falcon", "Pigeon", "Robin", "Cuckoo", "Dove", "Gull", "Crow", "Lark",
]  # fmt: skip
SEATS = ("Town", "Port", "Hill", "Gate", "Ford", "Abbey", "Fort", "Cape")
BOOKS = ("Codex", "Scroll", "Folio", "Ledger", "Psalter", "Quarto", "Tablet", "Volume", "Almanac", "Chart")

#: What values are taken from, by the pool's name; pools are shared between kinds. Twenty each, so that a
#: guess is right in one of twenty.
POOLS: dict[str, tuple[str, ...]] = {
    "crafts": (
        "a glassblower", "a miller", "a printer", "a tailor", "a beekeeper", "a potter", "a surveyor",
        "a locksmith", "a weaver", "a baker", "a cooper", "a ferryman", "a jeweller", "a mason", "a notary",
        "a saddler", "a thatcher", "a vintner", "a watchmaker", "a bookbinder",
    ),
    "instruments": (
        "the cello", "the harp", "the flute", "the trumpet", "the lute", "the oboe", "the zither",
        "the fiddle", "the bagpipes", "the clarinet", "the drum", "the horn", "the mandolin", "the organ",
        "the piccolo", "the recorder", "the tambourine", "the trombone", "the viola", "the harmonica",
    ),
    "animals": (
        "a heron", "a hedgehog", "a badger", "a goat", "an otter", "a hare", "a tortoise", "a ferret",
        "a donkey", "a lizard", "a mole", "a squirrel", "a peacock", "a weasel", "a toad", "a crab",
        "a swan", "a beaver", "an owl", "a stag",
    ),
    "dishes": (
        "barley soup", "pickled plums", "smoked eel", "chestnut bread", "onion tart", "honey cake",
        "lentil stew", "fried mushrooms", "oat porridge", "rabbit pie", "cabbage rolls", "poppy dumplings",
        "pear jam", "roast parsnips", "salted cod", "spinach noodles", "walnut cheese", "rye pancakes",
        "cherry broth", "turnip mash",
    ),
    "guilds": tuple(
        f"the {name} Guild"
        for name in (
            "Lantern", "Anvil", "Compass", "Sickle", "Spindle", "Bellows", "Chisel", "Rudder", "Quill",
            "Barrel", "Shuttle", "Mortar", "Pulley", "Trowel", "Awl", "Bobbin", "Crucible", "Sextant",
            "Plumb", "Hourglass",
        )
    ),
    "prizes": tuple(
        f"the {name}"
        for name in (
            "Amber Medal", "Copper Wreath", "Crystal Cup", "Ebony Staff", "Jade Ring", "Opal Star",
            "Pearl Brooch", "Ruby Plate", "Silver Spur", "Topaz Crown", "Willow Branch", "Marble Bust",
            "Bronze Key", "Garnet Chain", "Coral Shell", "Onyx Seal", "Ivy Garland", "Quartz Lamp",
            "Sable Cloak", "Linen Sash",
        )
    ),
    "subjects": (
        "mosses", "tides", "comets", "grammar", "fossils", "clouds", "maps", "beetles", "logic", "glaciers",
        "herbs", "mirrors", "ballads", "bridges", "coins", "dreams", "volcanoes", "seashells", "clocks",
        "taxes",
    ),
    "rivers": tuple(
        f"the {name}"
        for name in (
            "Ombrel", "Tisk", "Varn", "Lemmer", "Quell", "Sorrow", "Ninth", "Aldow", "Brisk", "Cothe",
            "Drell", "Ewenny", "Fosk", "Gannel", "Hiss", "Irrel", "Jarrow", "Keld", "Murrow", "Pann",
        )
    ),
    "festivals": tuple(
        f"the {name}"
        for name in (
            "Kite Fair", "Torch Walk", "Goose Race", "Barge Parade", "Bell Night", "Apple Week", "Mask Ball",
            "Snow Dance", "Rope Pull", "Wool Market", "Fog Vigil", "Cheese Roll", "Frog Feast",
            "Moon Regatta", "Hat Contest", "Straw Bonfire", "Bread Blessing", "Thaw Supper",
            "Stilt Match", "Whistle Day",
        )
    ),
    "goods": (
        "blue salt", "clay pipes", "beeswax", "red ink", "tin buttons", "goose quills", "cork", "lamp oil",
        "slate", "hemp rope", "soap", "pine tar", "brass hinges", "dried figs", "felt hats", "paper",
        "oak barrels", "green dye", "horseshoes", "candied ginger",
    ),
    "landmarks": tuple(
        f"the {name}"
        for name in (
            "Leaning Tower", "Iron Staircase", "Broken Arch", "Sunken Chapel", "Twin Windmills",
            "Painted Wall", "Hollow Elm", "Stone Ship", "Round Granary", "Glass Dome", "Crooked Bridge",
            "Old Observatory", "Singing Well", "White Lighthouse", "Buried Theatre", "Mosaic Square",
            "Hanging Stable", "Tiled Bathhouse", "Black Obelisk", "Narrow Tunnel",
        )
    ),
    "regions": tuple(
        f"the {name}"
        for name in (
            "Ashen Coast", "Upper Fens", "Saffron Plain", "Wolf Hills", "Long Marsh", "Cinder Steppe",
            "Birch Uplands", "Drowned Shire", "Eastern Terraces", "Pearl Islands", "Rook Forest",
            "Southern Dunes", "Thunder Pass", "Vineyard Belt", "Winter March", "Heather Plateau",
            "Hidden Valley", "Lace Delta", "Red Canyons", "Sheep Downs",
        )
    ),
    "forms": (
        "a ballad", "an opera", "a comedy", "a sermon", "a riddle book", "a cookery book", "a tragedy",
        "a diary", "a lullaby", "a hymn", "a satire", "a travel guide", "a fable", "a sonnet",
        "a puppet play", "a dictionary", "a farce", "a love letter", "a chronicle", "an elegy",
    ),
    "themes": (
        "a lost key", "a stolen bell", "two rival cooks", "a talking well", "a long winter", "a false map",
        "an unpaid debt", "a runaway horse", "a haunted mill", "a silent judge", "a broken promise",
        "a buried piano", "a clumsy thief", "a missing page", "a secret garden", "a shipwreck",
        "a stubborn mule", "a forgotten birthday", "a wandering star", "an honest liar",
    ),
    "halls": tuple(
        f"the {name}"
        for name in (
            "Marble Archive", "Cedar Library", "Harbour Museum", "Abbey Vault", "Judges Hall", "Orchid House",
            "Royal Attic", "Students Cellar", "Mint Gallery", "Weavers Loft", "Bishop Tower", "Clock Chamber",
            "Fishers Chapel", "Lower Treasury", "Map Room", "Night School", "Physic Garden", "Riding Academy",
            "Salt Exchange", "Tin Palace",
        )
    ),
    "colours": (
        "crimson", "indigo", "olive", "turquoise", "scarlet", "maroon", "ochre", "violet", "teal", "beige",
        "lilac", "navy", "mustard", "salmon", "charcoal", "mauve", "khaki", "magenta", "cream", "azure",
    ),
}  # fmt: skip

#: Plain words for the skills.
PLAIN = (
    "amber", "apple", "arrow", "barn", "bell", "berry", "blanket", "bottle", "branch", "brick", "bucket",
    "button", "cabin", "cable", "camel", "candle", "carpet", "castle", "chain", "chair", "cherry", "cliff",
    "clover", "coat", "copper", "corner", "cotton", "cradle", "cricket", "crown", "curtain", "daisy",
    "desert", "donkey", "dragon", "eagle", "eleven", "engine", "fabric", "feather", "fence", "finger",
    "flame", "flour", "forest", "fox", "garlic", "ginger", "glove", "grape", "gravel", "guitar", "hammer",
    "harbour", "harvest", "hazel", "helmet", "hollow", "honey", "hunter", "igloo", "island", "ivory",
    "jacket", "jungle", "kettle", "kitten", "ladder", "lantern", "leather", "lemon", "letter", "linen",
    "lizard", "lobster", "magnet", "maple", "marble", "meadow", "melon", "mirror", "monkey", "mountain",
    "muffin", "needle", "nettle", "oven", "oyster", "paddle", "panda", "paper", "parrot", "pebble",
    "pepper", "pillow", "pocket", "pony", "potato", "pumpkin", "puzzle", "rabbit", "raisin", "ribbon",
    "river", "rocket", "saddle", "salad", "sandal", "shadow", "shovel", "silver", "spider", "spoon",
    "stable", "statue", "straw", "sugar", "summer", "table", "temple", "thunder", "tiger", "timber",
    "tomato", "tractor", "tunnel", "turtle", "valley", "velvet", "violin", "wagon", "walnut", "whistle",
    "willow", "winter", "wizard", "yellow", "zebra",
)  # fmt: skip
