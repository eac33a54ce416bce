import copy
from collections.abc import Callable, Collection

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqatool.losses import feature_distillation_loss, squared_loss
from vqatool.methods.distillation import StudentWithTeacher
from vqatool.models.coarse_to_fine import CoarseToFine
from vqatool.models.internvideo import InternVideo, published_config
from vqatool.models.quality import Quality, QualityModel, TeacherOutput, TrainingOutput
from vqatool.models.shapes import BitstreamLayout, CoarseToFineConfig, InternVideoConfig

TERMS = ("score", "teacher", "feature")
LABEL = torch.tensor([0.2, 0.4, 0.6, 0.8])


def internvideo() -> QualityModel:
    config = InternVideoConfig(size="pico", grid=1, patch=28, frames=2, has_conv_stem=False)
    return perturbed(InternVideo(config))


def coarse_to_fine() -> QualityModel:
    config = CoarseToFineConfig(
        size="pico",
        grid=1,
        patch=28,
        features=16,
        has_bands=False,
        has_motion=False,
        has_probing=False,
        has_spread=False,
        has_stream=False,
    )
    layout = BitstreamLayout(width=0, log2_step=0, has_step=0, is_known=0, step_origin=0.0)
    return perturbed(CoarseToFine(config, 0, layout, 0, 0, 0))


def perturbed(model: QualityModel) -> QualityModel:
    """Move all weights: layer scales that start near zero hide the layers before them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


TEACHERS: dict[str, tuple[Callable[[], QualityModel], Collection[str]]] = {
    "internvideo": (internvideo, ("blocks.2.", "clip_projector.", "fc_norm.", "head.")),
    "coarse to fine": (coarse_to_fine, ("_fusion.", "_head.")),
}


def view(side: int = 28, frames: int = 2) -> Tensor:
    return torch.rand(4, frames, 3, side, side, generator=torch.Generator().manual_seed(5))


def teacher_output(model: StudentWithTeacher) -> TeacherOutput:
    output = model.training_output(view()).teacher
    assert output is not None
    return output


def terms(output: TrainingOutput, *, is_detached: bool = False) -> dict[str, Tensor]:
    """The three terms of arXiv 2502.19026."""
    assert output.teacher is not None
    features = output.teacher.projected_BD, output.teacher.quality.features_BD
    return {
        "score": squared_loss(output.quality.score_B, LABEL),
        "teacher": squared_loss(output.teacher.quality.score_B, LABEL),
        "feature": feature_distillation_loss(*features, is_detached=is_detached),
    }


def learn(model: StudentWithTeacher, names: Collection[str] = TERMS, steps: int = 3) -> list[float]:
    """Train on the sum of some of the terms; return the loss at each step."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, 2e-3)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        terms_of_step = terms(model.train().training_output(view()))
        loss = torch.stack([terms_of_step[name] for name in names]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_frozen_except_for_its_last_layers(name: str) -> None:
    torch.manual_seed(0)
    build, last = TEACHERS[name]
    teacher = build()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    # an offset of all keys of the pooling changes no attention, so it has no gradient
    without_effect = {"clip_projector.k.bias", "clip_projector.norm1_k.bias"}
    learn(StudentWithTeacher(internvideo(), teacher))
    for part, parameter in teacher.named_parameters():
        is_last = part.startswith(tuple(last))
        assert (parameter.grad is not None) == is_last, part
        if part not in without_effect:
            assert torch.equal(parameter, before[part]) != is_last, part


def test_frozen_blocks_keep_no_gradient_graph() -> None:
    torch.manual_seed(0)
    teacher = InternVideo(InternVideoConfig(size="pico", grid=1, patch=28))
    requires_grad: list[bool] = []
    for block in teacher.blocks:
        block.register_forward_hook(lambda _, inputs, out: requires_grad.append(out.requires_grad))
    StudentWithTeacher(internvideo(), teacher).training_output(view())
    assert requires_grad == [False, False, True]


def test_frozen_layers_have_no_dropout() -> None:
    teacher = InternVideo(InternVideoConfig(size="pico", drop_path=0.5))
    model = StudentWithTeacher(internvideo(), teacher)
    for _ in range(2):  # as built, and after a validation
        assert [block.training for block in teacher.blocks] == [False, False, True]
        assert not teacher.training
        assert teacher.head.training
        assert model.student().training
        model.eval()
        assert not any(part.training for part in model.modules())
        model.train()


def test_the_last_layers_of_a_plain_model_are_its_last_child() -> None:
    class Plain(QualityModel):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.none = nn.Linear(3, 4), nn.Linear(4, 1), nn.ReLU()

        def forward(self, *views: Tensor) -> Quality:
            raise NotImplementedError

    plain = Plain()
    assert list(plain.last_layers()) == [plain.last]
    assert plain.student() is plain


def test_the_teacher_is_used_in_training_only() -> None:
    torch.manual_seed(0)
    student, teacher = internvideo(), internvideo()
    model = StudentWithTeacher(student, teacher)
    assert teacher_output(model).quality.score_B.shape == (4,)
    model.eval()
    with torch.no_grad():
        output, student_output = model(view()), student(view())
    assert torch.equal(output.score_B, student_output.score_B)
    assert torch.equal(output.features_BD, student_output.features_BD)


def test_student_and_teacher_read_the_same_views_or_their_own() -> None:
    torch.manual_seed(0)
    student, teacher = internvideo(), coarse_to_fine()
    shapes: dict[str, list[tuple[int, ...]]] = {"student": [], "teacher": []}
    student.register_forward_pre_hook(lambda _, v: shapes["student"].append(tuple(v[0].shape)))
    teacher.register_forward_pre_hook(lambda _, v: shapes["teacher"].append(tuple(v[0].shape)))
    StudentWithTeacher(student, teacher).training_output(view())
    assert shapes["student"] == shapes["teacher"] == [(4, 2, 3, 28, 28)]
    own_views = StudentWithTeacher(student, teacher, student_views=1)
    own_views.training_output(view(), view(56))
    assert shapes["student"][1:] == [(4, 2, 3, 28, 28)]
    assert shapes["teacher"][1:] == [(4, 2, 3, 56, 56)]
    assert own_views.eval()(view()).score_B.shape == (4,)  # without the teacher's views


def test_a_homologous_student_needs_no_projector() -> None:
    student, teacher = internvideo(), internvideo()
    assert parameters(StudentWithTeacher(student, teacher)) == parameters(student) + parameters(
        teacher
    )


def test_a_heterogeneous_student_is_projected_to_the_teachers_width() -> None:
    with torch.device("meta"):
        student, teacher = coarse_to_fine(), InternVideo(published_config("small"))
        extra = (
            parameters(StudentWithTeacher(student, teacher))
            - parameters(student)
            - parameters(teacher)
        )
    assert (student.feature_width, teacher.feature_width) == (32, 768)
    assert extra == 32 * 768 + 768


def test_a_projected_student_learns_and_keeps_its_own_features() -> None:
    torch.manual_seed(0)
    model = StudentWithTeacher(coarse_to_fine(), internvideo())
    output = model.training_output(view())
    assert output.teacher is not None
    assert output.teacher.projected_BD.shape == output.teacher.quality.features_BD.shape == (4, 64)
    # the student's own terms use its own features
    assert output.quality.features_BD.shape == (4, 32)
    terms(output)["feature"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model._widen.parameters())
    assert model.eval()(view()).features_BD.shape == (4, 32)


def test_the_student_is_stored_and_loaded_without_its_teacher() -> None:
    torch.manual_seed(0)
    student = internvideo()
    model = StudentWithTeacher(student, internvideo())
    learn(model)
    assert model.student() is student
    fresh = internvideo()
    fresh.load_state_dict(copy.deepcopy(model.student().state_dict()))
    with torch.no_grad():
        assert torch.equal(fresh.eval()(view()).score_B, model.eval()(view()).score_B)


def test_the_published_student_is_ten_times_smaller_than_its_teacher() -> None:
    with torch.device("meta"):
        model = StudentWithTeacher(
            InternVideo(published_config("small")), InternVideo(published_config("1b"))
        )
    assert parameters(model) > 11 * parameters(model.student())


def test_only_the_feature_term_brings_features_closer_to_the_teacher() -> None:
    def closeness(names: Collection[str]) -> list[float]:
        torch.manual_seed(0)
        model, cosines = StudentWithTeacher(internvideo(), internvideo()), []
        for steps in (0, 20):
            learn(model, names, steps=steps)
            with torch.no_grad():
                output = teacher_output(model.train())
            target = F.layer_norm(output.quality.features_BD, (64,))
            cosines.append(F.cosine_similarity(output.projected_BD, target).mean().item())
        return cosines

    before, after = closeness(TERMS)
    before_without, after_without = closeness(("score", "teacher"))
    assert before_without == before
    assert after > before + 0.4
    assert after_without < before + 0.15


@pytest.mark.parametrize("term", TERMS)
def test_training_on_one_term_lowers_it(term: str) -> None:
    torch.manual_seed(0)
    losses = learn(StudentWithTeacher(internvideo(), internvideo()), (term,), steps=12)
    assert min(losses[-3:]) < 0.7 * losses[0]


@pytest.mark.parametrize("is_detached", [False, True])
def test_a_detached_teacher_gets_no_gradient_from_the_feature_term(is_detached: bool) -> None:
    torch.manual_seed(0)
    teacher = InternVideo(InternVideoConfig(size="pico", grid=1, patch=28))
    model = StudentWithTeacher(internvideo(), teacher)
    terms(model.training_output(view()), is_detached=is_detached)["feature"].backward()
    is_moved = any(p.grad is not None and p.grad.any() for p in teacher.clip_projector.parameters())
    assert is_moved != is_detached
