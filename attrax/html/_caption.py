"""The words on a page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """What is written on a page, beside its numbers.

    Attributes:
        title: of the page; each page has one of its own where this is empty.
        alt: what the picture shows, for those who do not see it.
        credit: whose picture it is, written below it.
        layer: the name of the layer; `spatial_attribution`, which has two, takes `layers`.
        units: what the numbers are measured in, such as "logit".
        word: what the numbers belong to: "channel", "direction", "group", "class"; each page has a
            word of its own where this is empty.

    Example:
        >>> Caption(layer="block5", units="logit").credit
        ''
    """

    title: str = ""
    alt: str = "The picture that is explained"
    credit: str = ""
    layer: str = ""
    units: str = ""
    word: str = ""

    def on_page(self, title: str, word: str = "channel") -> dict[str, str]:
        """What templates read, with the title and the word of a page where there are none."""
        return {
            "title": self.title or title,
            "credit": self.credit,
            "layer": self.layer,
            "units": self.units,
            "word": self.word or word,
        }


PLAIN = Caption()
"""Every page in its own words."""
