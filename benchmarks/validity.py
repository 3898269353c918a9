"""How often does a network write what makes no sense, with and without the tokenizer's grammar?

    python benchmarks/validity.py

Networks with random weights know nothing, so they find every way to go wrong. Each tokenizer's
network writes 10,000 sequences (`--sequences`), with temperatures from 0 to 5 and lengths from 1 to
64 ids, once without and once with the grammar. They are read token by token by the plain reader
below, which shares no code with the grammar, and counted:

    orphans    releases of what does not sound: NOTE_OFF, PEDAL_OFF, HOLD
    hanging    notes that are never released, or pressed again before they are, or have no length
    dropped    velocities and positions that no note (or tempo) follows, programs without a note or
               a change, lengths without a pitch, time signatures not after BAR, what stands outside
               a whole frame of voices, PAD; a wait that nothing follows is none
    longer     notes that end where they begin, so that a decoder must make them longer
    backwards  positions that are not later in their bar, or not inside it

The last columns: how many sequences have any of these, and how many do not decode.
"""

import argparse
import collections
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import keras_music as km

FAULTS = ("orphans", "hanging", "dropped", "longer", "backwards")
ROWS = 500  # sequences at once


def tokenizers():
    kinds = km.tokenizers
    return {
        "Performance": kinds.PerformanceTokenizer(),
        "Performance, programs, pedal": kinds.PerformanceTokenizer(
            multi_program=True, pedal="tokens", velocity_bins=4, max_shift_steps=20
        ),
        "REMI": kinds.RemiTokenizer(),
        "REMI, programs": kinds.RemiTokenizer(multi_program=True, velocity_bins=0),
        "Note": kinds.NoteTokenizer(),
        "Chorale": kinds.ChoraleTokenizer(),
    }


def faults(tokenizer, ids):
    """What is wrong with one row of ids, from START on: a Counter."""
    tokens = [split(token) for token in tokenizer.tokens(ids)]
    kinds = {row[0] for row in tokenizer.table.rows}
    if "HOLD" in kinds:
        return frame_faults(tokens, tokenizer.num_voices)
    if "NOTE_ON" in kinds:
        return press_faults(tokens)
    return note_faults(tokens, tokenizer)


def split(token):
    """ "TIME_SHIFT_5" -> ("TIME_SHIFT", 5); "TIME_SIGNATURE_6/8" -> (..., "6/8")."""
    kind, _, value = token.rpartition("_")
    if value.isdecimal():
        return kind, int(value)
    return (kind, value) if "/" in value else (token, 0)


def press_faults(tokens):
    count, sounding, step, program = collections.Counter(), {}, 0, 0
    following = [kind for kind, _ in tokens[1:]] + ["END"]
    for (kind, value), after in zip(tokens, following, strict=True):
        key = (program, "pedal" if kind.startswith("PEDAL") else value)
        if kind == "END":
            break
        if kind == "TIME_SHIFT":
            step += value
        elif kind == "PROGRAM":
            count["dropped"] += after in ("PROGRAM", "TIME_SHIFT", "END") or value == program
            program = value
        elif kind == "VELOCITY":
            count["dropped"] += after != "NOTE_ON"
        elif kind in ("NOTE_ON", "PEDAL_ON"):
            count["hanging"] += key in sounding
            sounding[key] = step
        elif kind in ("NOTE_OFF", "PEDAL_OFF"):
            count["orphans"] += key not in sounding
            count["longer"] += sounding.pop(key, -1) == step
        elif kind == "PAD" or step:
            count["dropped"] += 1
    count["hanging"] += len(sounding)
    return count


def note_faults(tokens, tokenizer):
    """Notes with lengths: `STEP`s from note to note, or bars and positions."""
    count, program, until = collections.Counter(), 0, {}
    beat = getattr(tokenizer, "steps_per_beat", 0)
    bar_length = 4 * beat
    bar_start, now, position, pitch, before = -bar_length, 0, 0, None, "START"
    for kind, value in [*tokens, ("END", 0)]:
        count["dropped"] += before == "POSITION" and kind in ("POSITION", "BAR", "END")
        count["dropped"] += before in ("STEP", "PROGRAM") and kind in ("BAR", "POSITION", "END")
        if pitch is not None and kind not in ("VELOCITY", "DURATION"):
            count["hanging"] += 1
            pitch = None
        if kind == "END":
            break
        if kind == "STEP":
            now += value
        elif kind == "BAR":
            bar_start, position = bar_start + bar_length, -1
            now = bar_start
        elif kind == "TIME_SIGNATURE":
            count["dropped"] += before != "BAR"
            above, below = map(int, value.split("/"))
            bar_length = above * 4 * beat // below
        elif kind == "POSITION":
            count["backwards"] += value <= position or value >= bar_length or before == "START"
            position, now = value, bar_start + value
        elif kind == "PROGRAM":
            count["dropped"] += before == "PROGRAM" or value == program
            program = value
        elif kind == "PITCH":
            pitch = (program, value)
            count["hanging"] += until.get(pitch, 0) > now
        elif kind in ("VELOCITY", "DURATION"):
            count["dropped"] += pitch is None
            if kind == "DURATION" and pitch:
                until[pitch], pitch = now + value, None
        elif kind == "PAD":
            count["dropped"] += 1
        before = kind
    return count


def frame_faults(tokens, num_voices):
    count, sounds, place = collections.Counter(), [False] * num_voices, 0
    for kind, _ in tokens[1:]:
        if kind == "END":
            break
        if kind not in ("NOTE", "HOLD", "REST"):
            count["dropped"] += 1
            continue
        voice = place % num_voices
        count["orphans"] += kind == "HOLD" and not sounds[voice]
        sounds[voice] = kind == "NOTE" or (kind == "HOLD" and sounds[voice])
        place += 1
    count["dropped"] += place % num_voices
    return count


def generated(tokenizer, num_sequences, *, use_grammar):
    """Rows of ids from networks with random weights; other weights for every 500."""
    model = km.build_model(tokenizer.vocab_size, "gru", 8, units=8)
    one_step = km.OneStep(model, tokenizer, use_grammar=use_grammar)
    for first in range(0, num_sequences, ROWS):
        rng = np.random.default_rng(first)
        for weight in model.weights:  # strong opinions, all of them wrong
            weight.assign(rng.normal(0, 2, weight.shape))
        end = tf.one_hot(tokenizer.end_id, tokenizer.vocab_size)
        model.layers[-1].bias.assign_sub(4.0 * end)  # most should become long
        rows = min(ROWS, num_sequences - first)
        written = one_step.generate_tokens(
            [None] * rows,
            num_tokens=rng.integers(1, 65, rows),
            temperature=rng.choice([0.0, 0.2, 0.5, 1.0, 2.0, 5.0], rows),
            seed=first,
        )
        yield from (row[:n] for row, n in zip(written.tokens, written.length, strict=True))


def count_faults(tokenizer, num_sequences, *, use_grammar):
    """A Counter of all faults, of the sequences that have one, and of those that do not decode."""
    total = collections.Counter()
    for ids in generated(tokenizer, num_sequences, use_grammar=use_grammar):
        found = faults(tokenizer, ids)
        total += found
        total["sequences"] += any(found.values())
        try:
            tokenizer.decode(ids)
        except Exception:
            total["undecodable"] += 1
    return total


def main(num_sequences):
    columns = (*FAULTS, "sequences", "undecodable")
    print(f"{num_sequences} sequences each; without -> with the grammar")
    print(f"{'':30}" + "".join(f"{name:>14}" for name in columns))
    for name, tokenizer in tokenizers().items():
        without, with_it = (
            count_faults(tokenizer, num_sequences, use_grammar=use) for use in (False, True)
        )
        cells = "".join(f"{f'{without[c]} -> {with_it[c]}':>14}" for c in columns)
        print(f"{name:30}{cells}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=10_000)
    main(parser.parse_args().sequences)
