"""What the story says, each sentence held against the running system."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Claims:
    """Prints sentences and remembers which did not hold."""

    failed: list[str] = field(default_factory=list)
    held: int = 0

    def scene(self, title: str) -> None:
        """Begin a part of the story."""
        print(f"\n{title}", flush=True)

    def tell(self, text: str) -> None:
        """Say something that claims nothing."""
        print(f"   {text}", flush=True)

    def claim(self, text: str, *, holds: bool) -> None:
        """Say *text*, and whether it held."""
        print(f" {'✓' if holds else '✗'} {text}", flush=True)
        if holds:
            self.held += 1
        else:
            self.failed.append(text)
