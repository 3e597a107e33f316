"""The training loop: a generator of events. It may be left after any of them, saved, and gone on with elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from worker.engine import canaries
from worker.engine.augment import augment
from worker.engine.evaluate import evaluate
from worker.engine.events import EpochFinished, Event, Progress, StepFinished
from worker.engine.method import Batch
from worker.engine.random import derive, permutation
from worker.engine.run import Run


def distill(run: Run) -> Iterator[Event]:
    """Train ``run.student`` to the end of its recipe, from wherever ``run`` stands.

    Yields StepFinished after every step, Progress every ``log_every`` steps and EpochFinished after every epoch.
    Raises EngineError: a loss that is not finite, a teacher that cannot teach, a canary that died.
    """
    recipe = run.recipe
    batch = recipe.batch_size
    taught_by = run.teacher.fingerprint() if run.teacher is not None else None
    if run.global_step == 0:
        canaries.before_training(run)
    while run.epoch <= recipe.epochs:
        order = permutation(len(run.train), seed=recipe.seed, epoch=run.epoch, device=run.device)
        read_at = time.perf_counter()
        while run.step < run.steps:
            _step(run, order[run.step * batch : (run.step + 1) * batch])
            run.step += 1
            if run.step % recipe.log_every == 0 or run.step == run.steps:
                metrics, images = run.window()  # the one place in an epoch that waits for the device
                moment = time.perf_counter()
                rate, read_at = images / (moment - read_at), moment
                yield Progress(
                    run.epoch, recipe.epochs, run.step, run.steps, run.global_step, metrics, images_per_second=rate
                )
            yield StepFinished(run.epoch, run.step, run.steps)
        yield _finish_epoch(run)
    if run.teacher is not None and taught_by is not None:
        canaries.after_training(run, taught_by)


def _step(run: Run, samples: Tensor) -> None:
    """One batch: sample ids int64 [B]."""
    recipe = run.recipe
    part = run.team.part(len(samples), relational=run.method.relational)
    # dropout, too, is a function of the position
    torch.manual_seed(derive(recipe.seed, "step", run.epoch, run.step) + part.rows.start)
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.optimizer["lr"] * recipe.schedule.factor(run.global_step / run.steps, recipe.epochs)
    whole = Batch(run.train.labels[samples], samples, run.epoch, recipe.seed)
    views = augment(run.train.batch(samples), samples, name=recipe.augmentation, seed=recipe.seed, epoch=run.epoch)
    images = run.method.view(views.float().div_(255), whole)[part.rows]  # [B, C, H, W] in 0 to 1
    images, batch = images.contiguous(memory_format=torch.channels_last), part.of(whole)
    with recipe.precision.autocast(run.device):
        student = run.student(images)
    teacher = run.teacher.outputs(images) if run.teacher is not None else None
    if run.method.relational:
        student, teacher, batch = part.gather(student), teacher and part.gather(teacher), whole
    terms = run.method(student, teacher, batch)
    loss = torch.stack(list(terms.values())).sum()
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(run.scaler.scale(loss))
    correct = (student.logits.detach().argmax(dim=1) == batch.labels).sum().float()
    figures = run.figures(terms, loss, correct, len(batch.labels))
    run.sums += run.team.add_up(run.parameters, figures, part)
    run.scaler.step(run.optimizer)
    run.scaler.update()


def _finish_epoch(run: Run) -> EpochFinished:
    """Validate, select, record, and move on. A strictly better epoch is selected, so ties go to the earlier."""
    done = run.epoch
    metrics = run.epoch_means()
    metrics["learning_rate"] = run.optimizer.param_groups[0]["lr"]
    if run.validation is not None:
        held_out = evaluate(run.student, run.validation)
        metrics |= {"validation/loss": held_out.loss, "validation/top1": held_out.top1}
        if held_out.top1 > run.best_top1:
            run.best_epoch, run.best_top1 = done, held_out.top1
            run.best_state = {name: value.detach().clone() for name, value in run.student.body.state_dict().items()}
    if done == 1:
        canaries.after_first_epoch(run)
    run.history.append({"epoch": done, **metrics})
    run.start_epoch()
    return EpochFinished(done, run.recipe.epochs, metrics)
