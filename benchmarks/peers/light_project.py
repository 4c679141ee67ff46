"""The Flyball project with steps that do next to nothing."""

import light

import flyball as fb

add, start, square, join = fb.step(light.add), fb.step(light.start), fb.step(light.square), fb.step(light.join)


@fb.pipeline
def chain():
    value = add(0)
    for _ in range(99):
        value = add(value)
    return value


@fb.pipeline
def fan():
    base = start()
    return join([square(base, number) for number in range(100)])
