"""The built-in data sets the service offers; a test holds this table against the engine's."""

from __future__ import annotations

from stillhouse.spec import class_names as names
from stillhouse.spec.dataset_facts import BuiltinDataset, DatasetFacts
from stillhouse.spec.photographs import PHOTOGRAPHS

__all__ = ["DATASETS", "BuiltinDataset", "DatasetFacts"]

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
        name="qmnist",
        title="QMNIST handwritten digits, 28x28: MNIST with the whole of its test split",
        classes=names.DIGITS,
        shape=(1, 28, 28),
        train=60_000,
        test=60_000,
        source="C. Yadav, L. Bottou (2019), through torchvision",
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
)
DATASETS: dict[str, BuiltinDataset] = {known.name: known for known in (*_LISTED, *PHOTOGRAPHS)} | {
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
