"""The built-in data sets the service offers; a test holds this table against the engine's."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


_DIGITS = tuple(str(digit) for digit in range(10))
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

DATASETS: dict[str, BuiltinDataset] = {
    "digits": BuiltinDataset(
        name="digits",
        title="UCI handwritten digits, 8x8",
        classes=_DIGITS,
        shape=(1, 8, 8),
        train=1797,
        test=None,
        mean=(0.3053,),
        std=(0.3761,),
        source="E. Alpaydin, C. Kaynak, UCI optdigits (1998), as scikit-learn carries it",
    ),
    "mnist": BuiltinDataset(
        name="mnist",
        title="MNIST handwritten digits, 28x28",
        classes=_DIGITS,
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        mean=(0.5,),
        std=(0.5,),
        source="Y. LeCun, C. Cortes, C. Burges, MNIST (1998), through torchvision",
    ),
    "fashion-mnist": BuiltinDataset(
        name="fashion-mnist",
        title="Fashion-MNIST articles of clothing, 28x28",
        classes=_CLOTHES,
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        mean=(0.2860,),
        std=(0.3530,),
        source="H. Xiao, K. Rasul, R. Vollgraf (2017), through torchvision",
    ),
    "kmnist": BuiltinDataset(
        name="kmnist",
        title="Kuzushiji-MNIST cursive characters, 28x28",
        classes=_HIRAGANA,
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        mean=(0.1918,),
        std=(0.3483,),
        source="T. Clanuwat et al. (2018), through torchvision",
    ),
    "cifar10": BuiltinDataset(
        name="cifar10",
        title="CIFAR-10 small photographs, 32x32",
        classes=_CIFAR10,
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        source="A. Krizhevsky (2009), through torchvision",
    ),
    "cifar100": BuiltinDataset(
        name="cifar100",
        title="CIFAR-100 small photographs, 32x32",
        classes=tuple(_CIFAR100.split()),
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        source="A. Krizhevsky (2009), through torchvision",
    ),
    "svhn": BuiltinDataset(
        name="svhn",
        title="SVHN cropped house numbers, 32x32",
        classes=_DIGITS,
        shape=(3, 32, 32),
        train=73_257,
        test=26_032,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        source="Y. Netzer et al. (2011), through torchvision",
    ),
}
