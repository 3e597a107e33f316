"""The training loop: a generator of events. It may be left after any of them, saved, and gone on with elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from worker.engine import canaries
from worker.engine.evaluate import evaluate
from worker.engine.events import EpochFinished, Event, Progress, StepFinished
from worker.engine.memory import within_memory
from worker.engine.method import Batch
from worker.engine.random import derive, seed_everything
from worker.engine.run import Run


def distill(run: Run) -> Iterator[Event]:
    """Train ``run.student`` to the end of its recipe, from wherever ``run`` stands.

    Yields StepFinished after every step, Progress every ``log_every`` steps and EpochFinished after every epoch.
    Raises EngineError: a loss that is not finite, a teacher that cannot teach, a canary that died, a batch that does
    not fit into memory.
    """
    recipe = run.recipe
    batch = recipe.batch_size
    taught_by = run.teacher.fingerprint() if run.teacher is not None else None
    canaries.check_rows(run)
    if run.global_step == 0:
        some = run.views.of_epoch(seed=recipe.seed, epoch=1)[:batch]
        _within_memory(run, partial(canaries.before_training, run), some)
    while run.epoch <= recipe.epochs:
        rows = run.views.of_epoch(seed=recipe.seed, epoch=run.epoch)
        read_at = time.perf_counter()
        while run.step < run.steps:
            left = rows[run.step * batch :]
            _within_memory(run, partial(_step, run, left), left[:batch])
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


def _step(run: Run, rows: Tensor) -> None:
    """One batch: the first of ``rows``, which are those of ``run.views`` to come in this epoch, int64 on the host."""
    recipe = run.recipe
    rows, ahead = rows[: recipe.batch_size], rows[recipe.batch_size :]
    part = run.team.part(len(rows), relational=run.method.relational)
    dropout = derive(recipe.seed, "step", run.epoch, run.step)  # it, too, is a function of the position
    seed_everything(dropout + part.rows.start, run.device)
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.optimizer["lr"] * recipe.schedule.factor(run.global_step / run.steps, recipe.epochs)
    samples = run.views.samples(rows)
    shown = run.views.show(rows, samples)
    whole = Batch(run.train.labels[samples], samples, run.epoch, recipe.seed, rows, ahead)
    images = run.method.view(shown, whole)  # [B, C, H, W] in 0 to 1
    if images is not shown:  # mixed, so that these are no views any more
        images, whole = images.contiguous(memory_format=torch.channels_last), replace(whole, rows=None)
    images, batch = images if part.is_whole else images[part.rows], part.of(whole)
    strong = run.views.strong(rows, seed=recipe.seed, epoch=run.epoch)[part.rows] if run.method.strong_view else None
    student, teacher = run.outputs(images, batch, strong)
    if run.method.relational:
        student, teacher, batch = part.gather(student), teacher and part.gather(teacher), whole
    terms = run.method(student, teacher, batch)
    loss = torch.stack(list(terms.values())).sum()
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(run.scaler.scale(loss))
    correct = (student.logits.detach().argmax(dim=1) == batch.labels).sum(dtype=torch.float32)
    figures = run.figures(terms, loss, correct, len(batch.labels))
    run.sums += run.team.add_up(run.parameters, figures, part)
    run.scaler.step(run.optimizer)
    run.scaler.update()


def _within_memory(run: Run, act: Callable[[], None], rows: Tensor) -> None:
    """Of several ranks none tries alone what would fit: the others would wait for it."""
    if run.team.size > 1:
        act()
    else:
        within_memory(act, step=partial(_step, run), samples=rows)


def _finish_epoch(run: Run) -> EpochFinished:
    """Validate, select, record, and move on. A strictly better epoch is selected, so ties go to the earlier."""
    done = run.epoch
    metrics = run.epoch_means()
    metrics["learning_rate"] = run.optimizer.param_groups[0]["lr"]
    if run.validation is not None:
        held_out = evaluate(run.student, run.validation, alive=run.alive)
        metrics |= {"validation/loss": held_out.loss, "validation/top1": held_out.top1}
        if held_out.top1 > run.best_top1:
            run.best_epoch, run.best_top1 = done, held_out.top1
            run.best_state = {name: value.detach().clone() for name, value in run.student.body.state_dict().items()}
    if done == canaries.first_learning_epoch(run):
        canaries.after_first_learning_epoch(run)
    run.history.append({"epoch": done, **metrics})
    run.start_epoch()
    return EpochFinished(done, run.recipe.epochs, metrics)
