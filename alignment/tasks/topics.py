"""What a list may be asked of, with six entries each: enough for a worked answer of any asked length."""

from __future__ import annotations

TOPICS: dict[str, tuple[str, ...]] = {
    "colours": ("red", "blue", "green", "yellow", "purple", "orange"),
    "animals": ("dog", "horse", "elephant", "fox", "goat", "lion"),
    "fruits": ("apple", "pear", "banana", "cherry", "plum", "mango"),
    "countries": ("Italy", "Kenya", "Japan", "Brazil", "Norway", "Canada"),
    "vegetables": ("carrot", "onion", "spinach", "cabbage", "pea", "leek"),
    "sports": ("football", "tennis", "swimming", "rowing", "hockey", "judo"),
    "tools": ("hammer", "saw", "drill", "spanner", "chisel", "pliers"),
    "flowers": ("rose", "tulip", "daisy", "lily", "poppy", "violet"),
    "birds": ("robin", "eagle", "owl", "sparrow", "heron", "swan"),
    "rivers": ("Nile", "Danube", "Amazon", "Rhine", "Ganges", "Volga"),
    "instruments": ("piano", "violin", "flute", "drum", "guitar", "trumpet"),
    "jobs": ("teacher", "baker", "nurse", "farmer", "pilot", "carpenter"),
    "drinks": ("water", "tea", "coffee", "milk", "juice", "lemonade"),
    "trees": ("oak", "birch", "pine", "maple", "willow", "beech"),
    "cities": ("Paris", "Cairo", "Lima", "Tokyo", "Madrid", "Oslo"),
    "languages": ("English", "Spanish", "Arabic", "Hindi", "French", "Swahili"),
    "shapes": ("circle", "square", "triangle", "oval", "hexagon", "star"),
    "toys": ("doll", "kite", "ball", "puzzle", "top", "train"),
    "insects": ("ant", "bee", "beetle", "moth", "wasp", "cricket"),
    "fish": ("salmon", "trout", "cod", "tuna", "herring", "carp"),
    "games": ("chess", "tag", "dominoes", "hopscotch", "checkers", "bingo"),
    "clothes": ("shirt", "coat", "skirt", "scarf", "hat", "jacket"),
    "metals": ("iron", "copper", "gold", "silver", "tin", "zinc"),
    "planets": ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn"),
    "desserts": ("cake", "pudding", "trifle", "sorbet", "pie", "custard"),
}
SENTENCES = (
    "My sister wrote the word {} on the board.", "I read the word {} in an old book.", "The word {} is easy to spell.",
    "Please say the word {} out loud.", "She looked up the word {} last night.", "We learnt the word {} at school.",
)  # fmt: skip
