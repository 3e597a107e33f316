"""Every method by its name. To add one: a file here, a line here, and its fields in ``stillhouse.spec.methods``."""

from __future__ import annotations

from worker.engine.method import Method
from worker.engine.methods.at import AttentionTransfer
from worker.engine.methods.crd import ContrastiveDistillation
from worker.engine.methods.dist import CorrelationDistillation
from worker.engine.methods.dkd import DecoupledDistillation
from worker.engine.methods.fitnet import FitNet
from worker.engine.methods.kd import KnowledgeDistillation
from worker.engine.methods.mlkd import MultiLevelDistillation
from worker.engine.methods.nkd import NormalisedDistillation
from worker.engine.methods.none import NoDistillation
from worker.engine.methods.ofa import OneForAll
from worker.engine.methods.patient import FunctionMatching
from worker.engine.methods.pkt import ProbabilisticTransfer
from worker.engine.methods.reviewkd import KnowledgeReview
from worker.engine.methods.rkd import RelationalDistillation
from worker.engine.methods.simkd import ReusedClassifier
from worker.engine.methods.sp import SimilarityPreserving
from worker.engine.methods.vid import VariationalInformation

METHODS: dict[str, type[Method]] = {
    "kd": KnowledgeDistillation,
    "dkd": DecoupledDistillation,
    "nkd": NormalisedDistillation,
    "dist": CorrelationDistillation,
    "mlkd": MultiLevelDistillation,
    "ofa": OneForAll,
    "patient": FunctionMatching,
    "fitnet": FitNet,
    "at": AttentionTransfer,
    "sp": SimilarityPreserving,
    "rkd": RelationalDistillation,
    "pkt": ProbabilisticTransfer,
    "vid": VariationalInformation,
    "crd": ContrastiveDistillation,
    "reviewkd": KnowledgeReview,
    "simkd": ReusedClassifier,
    "none": NoDistillation,
}
