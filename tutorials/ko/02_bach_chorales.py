# %% [markdown]
# # 바흐의 코랄을 이어 쓰는 신경망
#
# 이 스크립트는 몇 분 만에 4성부 코랄(chorale) 364곡을 읽어 토큰(token)으로 바꾸고, 순환
# 신경망(RNN)의 하나인 GRU가 다음 토큰을 알아맞히도록 훈련합니다. 그런 다음 신경망에게 한 번도 보지
# 못한 코랄을 이어 쓰게 하고, 그 결과를 보고 들을 수 있게 만들어 줍니다.
#
# - `out/chorale.mid`, `out/chorale.wav`, `out/chorale.png`: 이어 쓴 코랄
# - `out/learning_curve.png`: 신경망의 놀라움이 줄어드는 과정
# - `out/saved_model/1/`: TensorFlow Serving에서 바로 쓸 수 있는 생성기
#
# Python만 알면 됩니다. 음악 이론도 딥러닝도 몰라도 됩니다. CPU 코어 두 개로 2분쯤 걸립니다. GPU는
# 필요 없고, pip로 설치하는 것 말고는 내려받을 것도 없습니다.
#
# **원리.** 음악을 토큰의 열(sequence)로 적습니다. 신경망은 토큰을 하나씩 읽으면서, 다음에 올 수
# 있는 모든 토큰의 확률을 그때마다 말합니다. 이 일을 잘하게 되면 그 확률대로 주사위를 굴리게 합니다.
# 나온 토큰을 적고, 그것을 읽고, 다시 주사위를 굴립니다. 이렇게 신경망은 작곡을 합니다.

# %%
import json
import os
import pathlib
import subprocess
import sys
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_music as km

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. 코퍼스(corpus)
#
# 코랄은 music21 패키지에 들어 있습니다. 처음 한 번만 읽고(몇 초가 걸리며 진행 막대가 보입니다),
# 다음에 실행할 때를 위해 캐시(cache)에 둡니다.
#
# 그중 몇 곡은 처음부터 따로 떼어 둡니다. 신경망은 훈련에 쓴 곡을 통째로 외울 수 있습니다. 신경망이
# 무언가를 이해했는지는 한 번도 보지 못한 곡으로만 알 수 있습니다. `split`은 코랄을 훈련
# 데이터(train), 검증 데이터(validation), 테스트 데이터(test)로 나눕니다. 곡을 중간에서 자르지 않고,
# 음악이 같은 곡들은 같은 쪽에 둡니다.

# %%
corpus = km.corpora.bach_chorales()
train, valid, test = corpus.split(seed=0)
print(corpus)
print(f"{len(train)} to learn from, {len(valid)} to watch the learning, {len(test)} for the end")

# %% [markdown]
# ## 2. 토큰
#
# 피아노가 코랄을 불러 주면서 받아 적게 한다면 이렇게 말할 것입니다. "이 건반들을 누르고, 기다리고,
# 그 건반들을 떼고, 다른 건반들을 누르세요." *연주 토크나이저*(performance tokenizer)가 하는 일도
# 이것이 전부입니다. `NOTE_ON_60`은 60번 건반(가온 다)을 누르고, `TIME_SHIFT_50`은 100분의 50초를
# 기다리고, `NOTE_OFF_60`은 그 건반을 뗍니다. 아래에서는 어느 코랄의 첫머리를 그림(피아노 롤, piano
# roll)으로, 소리로, 음의 표로(시간의 단위는 초), 토큰으로 나타냅니다.

# %%
example = train[0]
km.plots.piano_roll(example.crop(10.0), out / "example.png")

# %%
km.audio.player(example.crop(10.0))

# %%
tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0, program=19)  # 19 = church organ
print(example)
print(example.notes.head(8).to_string())
ids = tokenizer.encode(example)
print("\n".join(" ".join(tokenizer.tokens(ids)[i : i + 5]) for i in range(0, 20, 5)))
print("the same as numbers, which is all that the network sees:", ids[:10].tolist())

# %% [markdown]
# 그 과정에서 울리는 소리는 사라지지 않습니다. 수를 음악으로 되돌리면 같은 건반이 같은 시각에 눌려
# 있습니다. 사라지는 것은 두 가지입니다. 어느 성부가 무엇을 부르는지는 알 수 없게 되고, 두 성부가 한
# 건반에서 만나면 음이 하나만 남습니다. 수를 음악으로 되돌린 다음(decode) 다시 수로 바꾸면(encode)
# 똑같은 수가 나옵니다.

# %%
decoded = tokenizer.decode(ids)
print(f"{len(example)} notes in four voices, {len(decoded)} keys pressed")
print("encode(decode(ids)) == ids:", np.array_equal(tokenizer.encode(decoded), ids))

# %% [markdown]
# ## 3. 질문과 답
#
# 신경망은 토큰 128개를 담은 창(window)을 받습니다. 토큰마다 그다음 토큰이 답입니다. 직접 쓰면 한
# 줄이면 됩니다. 패키지는 모든 곡에 같은 일을 하고, 에포크(epoch)마다 새로 섞으며, 창이 한 곡에서
# 다음 곡으로 넘어가지 않게 합니다.

# %%
SEQUENCE_LENGTH = 128
question, answer = ids[:SEQUENCE_LENGTH], ids[1 : SEQUENCE_LENGTH + 1]

first_piece = km.make_dataset([example], tokenizer, SEQUENCE_LENGTH, batch_size=1)
inputs, targets = next(iter(first_piece))
print("by hand and by the package alike:", np.array_equal(inputs[0], question), end=" ")
print(np.array_equal(targets[0], answer))

train_ds = km.make_dataset(train, tokenizer, SEQUENCE_LENGTH, batch_size=32, seed=0)
valid_ds = km.make_dataset(valid, tokenizer, SEQUENCE_LENGTH, batch_size=32)
print(f"{train_ds.cardinality()} batches of 32 windows of {SEQUENCE_LENGTH} tokens an epoch")
batch, _ = next(iter(valid_ds))
figure = km.plots.Picture(figsize=(9, 2.8), layout="constrained")
axes = figure.add_subplot(xlabel="token of the window", ylabel="window")
axes.imshow(batch, aspect="auto", cmap="viridis", interpolation="nearest")
axes.set_title("one batch, as the network gets it; the colour is the token's number", loc="left")
figure.savefig(out / "batch.png")
figure

# %% [markdown]
# ## 4. 신경망
#
# 층(layer)은 세 개입니다. *임베딩*(embedding)은 각 토큰을 수 64개로 바꿉니다. *GRU*는 그 수들을
# 왼쪽에서 오른쪽으로 읽으며 수 256개를 기억(memory)으로 간직합니다. *완전 연결층*(dense layer)은 그
# 기억을 점수로 바꿉니다. 다음에 올 수 있는 토큰 359개마다 점수가 하나씩 나옵니다.

# %%
CELL, UNITS, EPOCHS = "gru", 256, 12
keras.utils.set_random_seed(0)
model = km.build_model(tokenizer.vocab_size, cell=CELL, embedding_dim=64, units=UNITS)
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(6e-3, EPOCHS * len(train_ds))),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
)
model.summary()

# %% [markdown]
# `fit`은 신경망을 훈련합니다. 창을 묶은 *배치*(batch)를 신경망에 보여 주고, *손실*(loss)을
# 계산하고, 신경망의 모든 수를 손실이 작아지는 쪽으로 조금씩 움직이는 일을 되풀이합니다. 모든 창을
# 한 번씩 보는 것을 *에포크*라고 합니다(튜토리얼 01에서 더 자세히 설명하고, 튜토리얼 03에서는 한
# 단계를 손으로 해 봅니다). 손실은 정답을 보고 얼마나 놀랐는지를 나타냅니다. 신경망이 정답에 준
# 확률에 자연로그를 취하고 음의 부호를 붙인 값이며, 단위는 *내트*(nat)입니다. 아무것도 모르는
# 신경망의 손실은 ln(359) = 5.88입니다. 두 번째 수인 `val_loss`는 학습에 쓰지 않는 코랄(검증
# 데이터)을 보고 놀란 정도입니다. 도중에 멈추어도(Ctrl-C, 노트북에서는 커널 중단) 스크립트를 다시
# 시작하면, 마지막으로 끝낸 에포크 다음부터 이어 갑니다(다만 창을 섞는 순서가 달라져서 나중에 쓰는
# 음도 달라집니다).

# %%
backup = keras.callbacks.BackupAndRestore(out / f"training_{CELL}_{UNITS}", double_checkpoint=True)
history = model.fit(
    train_ds,
    validation_data=valid_ds,
    epochs=EPOCHS,
    shuffle=False,  # the pipeline shuffles
    callbacks=[backup],
    verbose=2,
)

# %% [markdown]
# ## 5. 무언가를 배웠을까요?
#
# 아는 것이 적은 예측기 셋과 견주어 봅시다. 하나는 아무것도 모르고(*uniform*), 하나는 토큰을 세어
# 보았고(*unigram*), 하나는 토큰이 얼마나 자주 되풀이되는지 알아차렸습니다. 문제는 모두 마지막에
# 쓰려고 떼어 둔 코랄(테스트 데이터)에서 냅니다.

# %%
losses = km.evaluation.ladder(model, tokenizer, train, test, SEQUENCE_LENGTH)
print("held-out loss, in nats a token (less is better)")
print(losses.round(3).to_string())
if not losses["model"] < 0.5 * losses.drop("model").min():
    raise SystemExit("The model does not clearly beat the baselines: something is wrong.")

# %% [markdown]
# 학습 곡선은 신경망이 얼마나 빨리 배웠는지 보여 줍니다. 점선은 예측기 셋입니다. 훈련 데이터의 선이
# 다른 선보다 아래로 내려가는 곳에서, 신경망은 훈련에 쓴 코랄을 외우는 일도 함께 하기 시작합니다.
# 검증 데이터의 선이 내려가는 동안에는, 신경망이 배우는 것이 모르는 코랄에도 여전히 들어맞습니다.

# %%
curve = history.history and km.plots.learning_curve(  # empty after a run stopped at its very end
    history,
    out / "learning_curve.png",
    baselines=losses.drop("model"),
    title="Surprise at the next token of a chorale",
)
curve  # a notebook shows it here

# %% [markdown]
# ## 6. 코랄 이어 쓰기
#
# 프롬프트(prompt)는 신경망이 한 번도 보지 못한 코랄의 첫 네 마디입니다. *온도*(temperature)를 0.9로
# 두면 신경망이 자기 확률보다 조금 더 조심스럽게 고릅니다(온도는 점수를 나누는 수입니다. 1보다
# 낮으면 나올 만한 토큰이 더 잘 나옵니다). *top-p* 0.95는 확률이 높은 토큰부터 차례로, 확률의 합이
# 95 %가 될 때까지만 남깁니다. *시드*(seed)가 있으면 주사위를 다시 굴려도 똑같은 결과가 나옵니다.
# 하나하나가 어떤 일을 하는지는 튜토리얼 05에서 봅니다.

# %%
prompt = test[0].crop(float(test[0].to_seconds(16)))  # 16 quarter notes
prompt_end = prompt.duration
settings = {"num_tokens": 300, "temperature": 0.9, "top_p": 0.95, "seed": 1}
one_step = km.OneStep(model, tokenizer)
piece = one_step.generate(prompt, **settings)
print(f"prompt: {prompt}   with its continuation: {piece}")

km.write_midi(piece, out / "chorale.mid")
km.audio.write_wav(piece, out / "chorale.wav")
print(f"sound by: {km.audio.engine()}")
print(
    "listen to out/chorale.wav, look at out/chorale.png, open out/chorale.mid in any music program"
)
km.plots.piano_roll(
    piece,
    out / "chorale.png",
    prompt_end=prompt_end,
    title=f"{test[0].name}, continued by a GRU",
)

# %%
km.audio.player(out / "chorale.wav")  # in a notebook you can listen right here

# %% [markdown]
# *스펙트로그램*(spectrogram)은 귀에 들리는 것을 보여 줍니다. 순간마다 각 주파수의 소리가 얼마나
# 센지 나타낸 그림입니다(*멜*(mel): 주파수의 간격을 귀에 들리는 대로 맞춘 것). 위에는 음이 있고, 그
# 아래에는 그 음들이 낸 소리가 있습니다. 음마다 그 위로 배음(overtone)이 보입니다. 신경망은 이
# 소리를 한 번도 들은 적이 없습니다. 아는 것은 토큰뿐입니다.

# %%
mel = km.audio.mel_spectrogram(km.audio.render(piece))
km.plots.roll_and_spectrogram(piece, mel, out / "chorale_sound.png", prompt_end=prompt_end)

# %% [markdown]
# ## 7. 가져가기
#
# `export`는 생성기를 SavedModel로 저장합니다. 그래프와 가중치(weight)만 있고 Python은 들어 있지
# 않습니다. TensorFlow Serving은 이 폴더를 그대로 서비스할 수 있습니다(튜토리얼 06). 필요한 것이 이
# 폴더에 모두 들어 있는지 확인해 봅시다. 새 프로세스에서 SavedModel을 불러와 같은 프롬프트를 이어
# 쓰게 하고, 음을 비교합니다.

# %%
version = km.export(
    one_step,
    out / "saved_model",
    card={
        "data": f"{corpus!r}, music21's corpus",
        "split": "by piece, seed 0, 80/10/10 %",
        "held-out loss (nats a token)": losses.round(4).to_dict(),
        "command": "python tutorials/02_bach_chorales.py",
    },
)
NEW_PROCESS = """
import json, sys
import keras_music as km
path, prompt, settings = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
written = km.load(path).generate_tokens(prompt, **settings)
print(json.dumps(written.tokens[0].tolist()))
"""
prompt_ids = tokenizer.encode(prompt)[:-1].tolist()  # without END: something follows
answer = subprocess.run(
    [sys.executable, "-c", NEW_PROCESS, version, json.dumps(prompt_ids), json.dumps(settings)],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
)
same = tokenizer.decode(json.loads(answer.stdout.splitlines()[-1]))
if not same.notes.equals(piece.notes):
    raise SystemExit("The SavedModel gives other notes than the model: something is wrong.")
print(f"{version}: loaded in a new process, it writes the same {len(piece)} notes")

# %% [markdown]
# ## 배운 것
#
# - 음악은 토큰의 열이 되고, 다음 토큰을 예측하는 신경망은 작곡을 할 수 있습니다.
# - 떼어 둘 때는 곡을 통째로 떼어 둡니다. 손실은 단순한 예측기(baseline)와 견줄 때만 의미가
#   있습니다.
# - 생성기는 프롬프트, 시드, 설정을 받는 함수 하나입니다. 여기에서도 새 프로세스에서도 똑같이
#   작동합니다.
#
# ## 연습 문제
#
# 점 세 개가 있는 자리에 답을 쓰고 셀을 다시 실행하세요.
#
# 1. 온도가 0일 때, 시드를 1부터 20까지 바꾸면 서로 다른 음악이 몇 가지나 이어집니까? (그중 하나를
#    보려면 `km.plots.piano_roll(tokenizer.decode(rows.tokens[0]))`을 쓰세요.)

# %%
rows = one_step.generate_tokens([prompt] * 20, 60, temperature=0, seed=list(range(1, 21)))
answer = ...  # your answer
km.explain.check(1, answer, len({tuple(row) for row in rows.tokens.tolist()}))

# %% [markdown]
# 2. GRU에는 가중치 블록(block)이 세 개인데 LSTM에는 네 개입니다. 블록 하나는 입력에 곱하는 행렬(64
#    곱하기 256), 기억에 곱하는 행렬(256 곱하기 256), 그리고 *편향*(bias)으로 되어 있습니다. 편향은
#    합 256개마다 하나씩 더하는 수입니다. 가운데 층을 LSTM으로 바꾸면, 세 층을 합해 이 신경망에는
#    수가 모두 몇 개 있습니까? (완전 연결층에도 편향이 있습니다.)

# %%
answer = ...  # your answer
other = km.build_model(tokenizer.vocab_size, cell="lstm", embedding_dim=64, units=UNITS)
km.explain.check(2, answer, other.count_params(), tolerance=0)

# %% [markdown]
# 3. 손실이 ln(n)이라는 것은, 확률이 똑같은 토큰 n개를 놓고 망설이는 사람만큼 놀란다는 뜻입니다. 이
#    신경망은 한 번도 보지 못한 코랄에서 토큰 몇 개를 놓고 망설입니까? (소수점 아래 두 자리까지
#    답하세요.)

# %%
answer = ...  # your answer
km.explain.check(3, answer, lambda n: abs(np.log(n) - losses["model"]) < 0.01)

# %% [markdown]
# ## 참고 문헌
#
# - S. Oore 외, *This Time with Feeling: Learning Expressive Musical Performance* (2018).
# - K. Cho 외, *Learning Phrase Representations using RNN Encoder-Decoder* (2014).
# - M. Cuthbert와 C. Ariza, *music21* (2010): 코랄이 들어 있는 코퍼스를 제공합니다.

# %%
print(f"done in {time.time() - started:.0f} s")
