"""An amount in words, in which a slipped digit cannot hide."""

ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
THOUSANDS = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))


def cents_in_words(cents: int) -> str:
    """Write an amount in words, such as ``one thousand two hundred fifty dollars and fifty cents``."""
    dollars, rest = divmod(cents, 100)
    parts = [_counted(dollars, "dollar")] if dollars or not rest else []
    parts += [_counted(rest, "cent")] if rest else []
    return " and ".join(parts)


def _counted(number: int, unit: str) -> str:
    return f"{_in_words(number)} {unit}{'' if number == 1 else 's'}"


def _in_words(number: int) -> str:
    for size, name in THOUSANDS:
        if number >= size:
            whole, rest = divmod(number, size)
            return f"{_in_words(whole)} {name}" + (f" {_in_words(rest)}" if rest else "")
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")
