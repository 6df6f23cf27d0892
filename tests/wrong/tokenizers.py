@wrong("data", "is_the_same_each_time")
class AnotherEachTime(Shakespeare):
    """Its documents come in another order for each that is made."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        AnotherEachTime.made += 1
        self.turn = AnotherEachTime.made

    def documents(self):
        documents = list(super().documents())
        yield from documents[self.turn % 3 :] + documents[: self.turn % 3]


@wrong("data", "is_the_same_each_time")
class AsksWhatItTaught(Examples):
    def splits(self, held_out):
        known = [Example(f"{n}>", str(n)) for n in range(20)]
        return {"train": Asked(known), "val": Asked(known[3:5])}

    def fingerprint(self) -> str:
        return "known"
