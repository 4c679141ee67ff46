"""The Flyball project with training steps."""

import work

import flyball as fb

load, validate, split = fb.step(work.load), fb.step(work.validate), fb.step(work.split)
train, evaluate, save = fb.step(work.train), fb.step(work.evaluate), fb.step(work.save)
make, change, total = fb.step(work.make), fb.step(work.change), fb.step(work.total)


@fb.pipeline
def six():
    parts = split(validate(load("data/rows.csv")))
    model = train(parts)
    return save(model, evaluate(model, parts))


@fb.pipeline
def handover():
    return total(change(make()))
