"""The built-in data sets the service offers; a test holds this table against the engine's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillhouse.spec import class_names as names


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What a spec is reviewed against, of a built-in set or an uploaded one."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """Channels, height, width of one image."""
    train: int
    """Images in the training split as published, before validation (and a missing test split) is drawn from it."""
    test: int | None
    """Images in the published test split; None where there is none and a tenth of train is drawn instead."""
    validation: int | None = None
    """Images in a validation split that the set brings along."""
    smallest_class: int | None = None
    """Training images of the rarest class, where that is known."""

    @property
    def images(self) -> int:
        """Of all splits."""
        return self.train + (self.test or 0) + (self.validation or 0)

    def resized(self, side: int | None) -> DatasetFacts:
        """The same with images of ``side`` by ``side``; None leaves them as they are."""
        return self if side is None else replace(self, shape=(self.shape[0], side, side))


@dataclass(frozen=True, kw_only=True)
class BuiltinDataset(DatasetFacts):
    """A data set that needs no upload."""

    title: str
    mean: tuple[float, ...] | None = None
    """Of each channel for pixels from 0 to 1, where published; else it is computed from the training split."""
    std: tuple[float, ...] | None = None
    source: str


_COHEN = "G. Cohen et al. (2017), through torchvision, which leaves the images transposed as they are published"
_EMNIST = {
    "byclass": ("digits and letters of both cases", names.ALPHANUMERIC, 697_932, 116_323),
    "bymerge": ("digits and letters, cases that look alike merged", names.MERGED, 697_932, 116_323),
    "balanced": ("digits and letters, as many of each, cases that look alike merged", names.MERGED, 112_800, 18_800),
    "letters": ("letters, cases merged", names.LETTERS, 124_800, 20_800),
    "digits": ("digits", names.DIGITS, 240_000, 40_000),
    "mnist": ("digits, as many as in MNIST", names.DIGITS, 60_000, 10_000),
}
_LISTED = (
    BuiltinDataset(
        name="digits",
        title="UCI handwritten digits, 8x8",
        classes=names.DIGITS,
        shape=(1, 8, 8),
        train=1797,
        test=None,
        mean=(0.3053,),
        std=(0.3761,),
        source="E. Alpaydin, C. Kaynak, UCI optdigits (1998), as scikit-learn carries it",
    ),
    BuiltinDataset(
        name="mnist",
        title="MNIST handwritten digits, 28x28",
        classes=names.DIGITS,
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        mean=(0.5,),
        std=(0.5,),
        source="Y. LeCun, C. Cortes, C. Burges, MNIST (1998), through torchvision",
    ),
    BuiltinDataset(
        name="fashion-mnist",
        title="Fashion-MNIST articles of clothing, 28x28",
        classes=names.CLOTHES,
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        source="H. Xiao, K. Rasul, R. Vollgraf (2017), through torchvision",
    ),
    BuiltinDataset(
        name="kmnist",
        title="Kuzushiji-MNIST cursive characters, 28x28",
        classes=names.HIRAGANA,
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        source="T. Clanuwat et al. (2018), through torchvision",
    ),
    BuiltinDataset(
        name="cifar10",
        title="CIFAR-10 small photographs, 32x32",
        classes=names.CIFAR10,
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        source="A. Krizhevsky (2009), through torchvision",
    ),
    BuiltinDataset(
        name="cifar100",
        title="CIFAR-100 small photographs, 32x32",
        classes=names.CIFAR100,
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        source="A. Krizhevsky (2009), through torchvision",
    ),
    BuiltinDataset(
        name="svhn",
        title="SVHN cropped house numbers, 32x32",
        classes=names.DIGITS,
        shape=(3, 32, 32),
        train=73_257,
        test=26_032,
        source="Y. Netzer et al. (2011), through torchvision",
    ),
    BuiltinDataset(
        name="usps",
        title="USPS handwritten digits, 16x16",
        classes=names.DIGITS,
        shape=(1, 16, 16),
        train=7_291,
        test=2_007,
        source="J. Hull (1994), through torchvision",
    ),
    BuiltinDataset(
        name="semeion",
        title="Semeion handwritten digits, 16x16",
        classes=names.DIGITS,
        shape=(1, 16, 16),
        train=1_593,
        test=None,
        source="Semeion Research Center (1998), through torchvision",
    ),
    BuiltinDataset(
        name="stl10",
        title="STL-10 labelled photographs, 96x96",
        classes=names.STL10,
        shape=(3, 96, 96),
        train=5_000,
        test=8_000,
        source="A. Coates, H. Lee, A. Ng (2011), through torchvision",
    ),
    BuiltinDataset(
        name="eurosat",
        title="EuroSAT satellite images, 64x64",
        classes=names.EUROSAT,
        shape=(3, 64, 64),
        train=27_000,
        test=None,
        source="P. Helber et al. (2019), through torchvision",
    ),
    BuiltinDataset(
        name="gtsrb",
        title="GTSRB German traffic signs of varying sizes, kept at 48x48",
        classes=names.TRAFFIC_SIGNS,
        shape=(3, 48, 48),
        train=26_640,
        test=12_630,
        source="J. Stallkamp et al. (2012), through torchvision",
    ),
    BuiltinDataset(
        name="imagenette",
        title="Imagenette, ten ImageNet classes: photographs of varying sizes, kept at 224x224",
        classes=names.IMAGENETTE,
        shape=(3, 224, 224),
        train=9_469,
        test=3_925,
        source="J. Howard, fastai (2019), the 320 px edition, through torchvision",
    ),
    BuiltinDataset(
        name="oxford-iiit-pet",
        title="Oxford-IIIT pets: photographs of varying sizes, kept at 224x224",
        classes=names.PETS,
        shape=(3, 224, 224),
        train=3_680,
        test=3_669,
        source="O. Parkhi et al. (2012), through torchvision",
    ),
    BuiltinDataset(
        name="flowers102",
        title="Oxford flowers: photographs of varying sizes, kept at 224x224",
        classes=names.FLOWERS,
        shape=(3, 224, 224),
        train=1_020,
        validation=1_020,
        test=6_149,
        source="M. Nilsback, A. Zisserman (2008), through torchvision",
    ),
    BuiltinDataset(
        name="dtd",
        title="Describable textures: photographs of varying sizes, kept at 224x224",
        classes=names.TEXTURES,
        shape=(3, 224, 224),
        train=1_880,
        validation=1_880,
        test=1_880,
        source="M. Cimpoi et al. (2014), the first of its ten partitions, through torchvision",
    ),
    BuiltinDataset(
        name="food101",
        title="Food-101: photographs of varying sizes, kept at 224x224",
        classes=names.FOOD,
        shape=(3, 224, 224),
        train=75_750,
        test=25_250,
        source="L. Bossard, M. Guillaumin, L. Van Gool (2014), through torchvision",
    ),
    BuiltinDataset(
        name="rendered-sst2",
        title="Rendered SST-2, sentences as images, kept at 224x224",
        classes=names.SENTIMENT,
        shape=(3, 224, 224),
        train=6_920,
        validation=872,
        test=1_821,
        source="A. Radford et al. (2021), R. Socher et al. (2013), through torchvision",
    ),
)
DATASETS: dict[str, BuiltinDataset] = {known.name: known for known in _LISTED} | {
    f"emnist-{split}": BuiltinDataset(
        name=f"emnist-{split}",
        title=f"EMNIST handwritten {title}, 28x28",
        classes=classes,
        shape=(1, 28, 28),
        train=train,
        test=test,
        source=_COHEN,
    )
    for split, (title, classes, train, test) in _EMNIST.items()
}
