"""What the files of a camera can hold. A new content is a module here and a line in `CONTENTS`."""

from crosspol.rigs.contents.angles import Angles
from crosspol.rigs.contents.content import ANGLES_DEG, Content, Measured, Stored
from crosspol.rigs.contents.image import Image
from crosspol.rigs.contents.maps import Maps
from crosspol.rigs.contents.mosaic import Mosaic
from crosspol.rigs.contents.stokes import Stokes

__all__ = ["ANGLES_DEG", "CONTENTS", "Content", "Measured", "Stored"]

CONTENTS: dict[str, Content] = {content.name: content for content in (Mosaic(), Angles(), Stokes(), Maps(), Image())}
"""By the name in `rig.yaml`."""
