# %% [markdown]
# # 셰익스피어처럼 글을 쓰는 신경망
#
# 이 신경망에는 아무도 낱말을 가르쳐 주지 않습니다. 신경망은 희곡 아홉 편을 한 줄로 길게 이어진
# 문자로 보면서 다음 문자를 알아맞히는 법을 배웁니다. 2분쯤 지나면 철자를 맞게 쓰고, 말하는 사람의
# 이름은 대문자로 쓰고 그 뒤에 쌍점을 찍는다는 것을 알며, 영어와 비슷해 보이는 대사를 씁니다.
#
# 이 스크립트는 `out/shakespeare.txt`, `out/shakespeare.png`(학습 곡선), 작은 그림 두 장을 만듭니다.
# 그리고 *SavedModel*인 `out/shakespeare/1/`도 만듭니다. SavedModel은 다른 프로그램에서 실행할 수
# 있는 폴더입니다(튜토리얼 06).
#
# Python과 중고등학교 수학만 알면 되고, 딥러닝은 몰라도 됩니다. CPU 코어 두 개로 2분쯤 걸립니다.
# GPU는 필요 없고, pip로 설치하는 것 말고는 내려받을 것도 없습니다. TensorFlow의 텍스트 생성
# 튜토리얼을 Keras 3으로 따라가며, 신경망이 무엇을 배웠는지는 한 번도 보지 못한 글로 잽니다.

# %%
import os
import pathlib
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_music as km

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. 글
#
# 긴 글 하나는 작품 단위로 나눌 수 없습니다. 그래서 누구나 앞쪽 90%로 학습하고 뒤쪽 10%는 검증
# 데이터(validation data)로 남겨 둡니다. 여기서도 그렇게 합니다.

# %%
corpus = km.corpora.shakespeare()
train, valid, _ = corpus.split()
print(corpus)
print(train[0][:220])

# %% [markdown]
# ## 2. 문자를 수로 바꾸기
#
# 글에 나오는 문자마다 번호를 하나씩 붙입니다. 여기에 특별한 뜻이 있는 번호 세 개를 더합니다. 0
# `PAD`는 빈자리를 채우고, 1 `START`는 글을 열고, 2 `END`는 글을 닫습니다. 직접 만들면
# 딕셔너리(dictionary) 하나로 충분합니다.

# %%
vocabulary = ["PAD", "START", "END", *sorted(set(corpus[0]))]
number_of = {token: number for number, token in enumerate(vocabulary)}
by_hand = [number_of["START"], *[number_of[c] for c in "First Citizen:"], number_of["END"]]

tokenizer = km.tokenizers.CharTokenizer(corpus)
print("by hand:   ", by_hand)
print("tokenizer: ", tokenizer.encode("First Citizen:").tolist())
print("and back:  ", repr(tokenizer.decode(by_hand)))
print(f"{tokenizer.vocab_size} tokens, three of them special: {''.join(vocabulary[3:])!r}")

# %% [markdown]
# 모든 문자가 똑같이 자주 나오지는 않습니다. 문자가 몇 번씩 나오는지 세어 본 사람은 세어 보지 않은
# 사람보다 벌써 더 잘 맞힐 수 있습니다. 이렇게 세어 보기만 한 예측기도 신경망이 이겨야 할
# 상대입니다.

# %%
ids = tokenizer.encode(train[0])
counts = np.bincount(ids, minlength=tokenizer.vocab_size)
order = np.argsort(-counts)
figure = km.plots.Picture(figsize=(10, 2.6), layout="constrained")
axes = figure.add_subplot()
axes.bar(range(len(order)), counts[order] / counts.sum(), color=km.plots.BLUE)
axes.set_xticks(range(len(order)), [repr(vocabulary[i])[1:-1] for i in order], fontsize=8)
axes.set(title="the 51 most frequent characters", ylabel="share", xlim=(-1, 50.5))
figure.savefig(out / "characters.png")
figure

# %% [markdown]
# ## 3. 질문과 답
#
# 신경망은 글의 어디에서나 스스로에게 한 가지를 묻습니다. *다음에는 어떤 문자가 올까?* 그래서 문자
# 100개를 담은 창(window)이 질문이 되고, 그 창을 한 문자 뒤로 옮긴 것이 답이 됩니다. 직접 만들면
# 이렇습니다.

# %%
SEQUENCE_LENGTH, BATCH_SIZE = 100, 64
windows = [
    ids[start : start + SEQUENCE_LENGTH + 1]
    for start in range(0, len(ids) - SEQUENCE_LENGTH, SEQUENCE_LENGTH)
]
questions = np.array([window[:-1] for window in windows])
answers = np.array([window[1:] for window in windows])
print("question:", repr(tokenizer.decode(questions[0][1:41])))  # after START
print("answer:  ", repr(tokenizer.decode(answers[0][1:41])))

# %% [markdown]
# 패키지는 같은 일을 `tf.data` 파이프라인, 곧 작은 단계를 줄줄이 이은 것으로 합니다. 창으로 자르고,
# 메모리에 담아 두고(*캐시*, cache), 한 바퀴 돌 때마다 새로 섞고(*셔플*, shuffle), 64개씩 묶고(이
# 묶음이 *배치*(batch)입니다), 배치 하나를 쓰는 동안 다음 배치를 준비합니다(*프리페치*, prefetch).
# 시드(seed)를 주지 않으면 섞지 않으므로 첫 배치를 비교할 수 있습니다.

# %%
inputs, targets = next(iter(km.make_dataset(train, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE)))
print("same questions:", np.array_equal(inputs, questions[:BATCH_SIZE]), end=", ")
print("same answers:", np.array_equal(targets, answers[:BATCH_SIZE]))

train_ds = km.make_dataset(train, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE, seed=0)
valid_ds = km.make_dataset(valid, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE)
print(f"{len(train_ds)} batches an epoch")

# %% [markdown]
# ## 4. 신경망
#
# - **임베딩**(embedding)은 문자마다 수 64개를 표에서 찾아 줍니다.
# - **GRU**는 그 수들을 왼쪽에서 오른쪽으로 읽습니다. 수 256개를 기억(memory)으로 가지고 있으며,
#   문자를 읽을 때마다 무엇을 잊고 무엇을 더할지 정합니다.
# - **완전 연결층**(dense layer)은 기억을 점수로 바꿉니다. 다음에 올 수 있는 문자마다 점수가 하나씩
#   나옵니다.
#
# *손실*(loss)은 실제로 나온 문자를 보고 얼마나 놀랐는지를 나타냅니다. 그 문자의 확률에 자연로그를
# 취하고 음의 부호를 붙인 값이며, 단위는 *내트*(nat)입니다. 틀림없이 나온다고 본 문자였다면 0이고,
# 동전의 앞뒤를 맞힐 때처럼 반반이었다면 0.69입니다.
#
# 훈련하기 전에는 모든 문자의 확률이 거의 같아야 합니다. 문자 V개 가운데 하나를 공평하게 찍으면
# 손실이 ln(V)이므로, 여기서도 그 값이 나와야 합니다. 더 큰 값이 나온다면 벌써 무언가 잘못된
# 것입니다.

# %%
UNITS, EPOCHS = 256, 3
keras.utils.set_random_seed(0)
model = km.build_model(tokenizer.vocab_size, cell="gru", embedding_dim=64, units=UNITS)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
print("scores (batch, time, vocab_size):", model(inputs).shape)
print(f"loss before training {loss(targets, model(inputs)):.3f}", end=", ")
print(f"ln({tokenizer.vocab_size}) = {np.log(tokenizer.vocab_size):.3f}")

# %% [markdown]
# **훈련**은 한 가지 일을 되풀이하는 것입니다. 신경망에 배치 하나를 보여 주고 평균 손실을
# 계산합니다. 그리고 신경망의 모든 수에 대해 묻습니다. 이 수가 조금 더 커지면 손실이 커질까,
# 작아질까? 그런 다음 모든 수를 손실이 작아지는 쪽으로 조금씩 움직입니다. 모든 창을 한 번씩 보는
# 것을 *에포크*(epoch)라고 합니다. 수마다 얼마나 움직일지는 `Adam`이 정합니다. *학습률*(learning
# rate) 0.008은 움직이는 폭의 기준이며, `CosineDecay`가 이것을 0까지 차츰 낮춥니다.
# (`from_logits=True`: 신경망은 확률이 아니라 점수를 내놓습니다. `ignore_class=0`: 빈자리는 손실에
# 넣지 않습니다. 튜토리얼 03에서는 이런 단계 하나를 손으로 해 봅니다.)

# %%
steps = EPOCHS * len(train_ds)
model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(8e-3, steps)), loss)
history = model.fit(
    train_ds,
    validation_data=valid_ds,
    epochs=EPOCHS,
    shuffle=False,  # the pipeline shuffles
    verbose=2,
)

# %% [markdown]
# 이 정도면 잘한 것일까요? 아는 것이 적은 예측기 셋과 견주어 봅시다. 하나는 아무것도
# 모르고(*uniform*), 하나는 문자를 세어 보았고(*unigram*), 하나는 같은 문자가 얼마나 자주
# 되풀이되는지 알아차렸습니다. 문제는 모두 따로 떼어 둔(*held out*) 글에서 냅니다.

# %%
losses = km.evaluation.ladder(model, tokenizer, train, valid, SEQUENCE_LENGTH, BATCH_SIZE)
print("held-out loss, in nats a character (less is better)")
print(losses.round(3).to_string())
km.plots.learning_curve(
    history,
    out / "shakespeare.png",
    baselines=losses.drop("model"),
    title="Surprise at Shakespeare's next character",
)

# %% [markdown]
# ## 5. 한 단계를 손으로
#
# 글을 쓸 때 신경망은 한 번에 한 문자씩 나아가야 합니다. 방금 쓴 문자가 다음에 읽을 문자가 되기
# 때문입니다. GRU의 한 단계는 행렬과 벡터의 곱 여섯 개로 이루어집니다. x를 문자의 임베딩, h를
# 기억(처음에는 모두 0)이라고 하면 다음과 같습니다.
#
#     z = sigmoid(Wz x + Uz h)                이전 기억을 얼마나 남길까
#     r = sigmoid(Wr x + Ur h)                새 생각에 이전 기억을 얼마나 쓸까
#     c = tanh(Wc x + r * (Uc h))             새 생각
#     h = z * h + (1 - z) * c                 새 기억
#
# `Wz x`는 행렬과 벡터의 곱이고, `*`는 같은 자리의 수끼리 곱하는 것입니다. 합마다 자기 수를 하나 더
# 더하는데, 이 수가 *편향*(bias)입니다. Keras는 W 세 개를 행렬 하나에 나란히 붙여 두고, U 세 개도
# 그렇게 합니다. 이때 행렬마다 행과 열을 맞바꿉니다. 그래서 코드에는 `x @ W`라고 적혀 있습니다.
# `OneStep`은 패키지가 하는 한 단계입니다.

# %%
table = model.layers[0].get_weights()[0]
W, U, bias = model.layers[1].get_weights()
dense_W, dense_bias = model.layers[2].get_weights()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step_by_hand(character, h):
    x = table[character]
    from_x = np.split(x @ W + bias[0], 3)
    from_h = np.split(h @ U + bias[1], 3)
    z = sigmoid(from_x[0] + from_h[0])
    r = sigmoid(from_x[1] + from_h[1])
    c = np.tanh(from_x[2] + r * from_h[2])
    h = z * h + (1 - z) * c
    return h @ dense_W + dense_bias, h


one_step = km.OneStep(model, tokenizer)
state, h = None, np.zeros(UNITS)
for character in tokenizer.encode("ROMEO:")[:-1]:  # without END: something follows
    scores, h = step_by_hand(character, h)
    package_scores, state = one_step.step([character], state)
difference = np.abs(scores - package_scores[0]).max()
print(f"largest difference between the step by hand and the package's: {difference:.1e}")
if not difference < 1e-4:
    raise SystemExit("The step by hand and the package differ: something is wrong.")

# %% [markdown]
# 점수는 소프트맥스(softmax)를 거쳐 확률이 됩니다. 신경망은 "ROMEO:" 다음에 무엇이 온다고
# 예상할까요?

# %%
probabilities = np.exp(scores) / np.exp(scores).sum()
likely = np.argsort(-probabilities)[:12]
figure = km.plots.Picture(figsize=(7, 2.6), layout="constrained")
axes = figure.add_subplot()
axes.bar([repr(vocabulary[i]) for i in likely], probabilities[likely], color=km.plots.BLUE)
axes.set(title="the next character after ROMEO:", ylabel="probability")
figure.savefig(out / "next_character.png")
for number in likely[:4]:
    print(f"{vocabulary[number]!r:8} {probabilities[number]:6.1%}")
figure

# %% [markdown]
# ## 6. 글을 쓰게 하기
#
# 이제 되풀이하면 됩니다. 한 단계 계산하고, 문자를 하나 뽑고, 다시 한 단계... 패키지는 이 반복을
# *그래프*(graph) 안에서 합니다. 그래프는 Python 없이도 실행되도록 계산을 한 번 적어 둔 것입니다.
# *프롬프트*(prompt, 이어 쓸 글)가 여러 개여도 한꺼번에 합니다. *시드*(seed)가 있으면 주사위를 다시
# 굴려도 똑같은 결과가 나옵니다. 문자를 어떻게 뽑을지는 다음 세 가지로 정합니다.
#
# - *온도*(temperature)는 소프트맥스에 넣기 전에 점수를 나누는 수입니다. 1보다 낮으면 나올 만한
#   문자가 더 잘 나오고, 1보다 높으면 드문 문자에도 기회가 돌아갑니다. 0이면 늘 확률이 가장 높은
#   문자를 고릅니다.
# - *top-k*는 확률이 가장 높은 문자 k개만 남깁니다(0: 모두 남김).
# - *top-p*는 확률이 높은 문자부터 차례로, 확률의 합이 p가 될 때까지만 남깁니다(1: 모두 남김).

# %%
texts = one_step.generate(
    ["ROMEO:"] * 4, num_tokens=250, temperature=[0.0, 0.5, 1.0, 1.5], seed=[1, 1, 1, 1]
)
for temperature, text in zip([0.0, 0.5, 1.0, 1.5], texts, strict=True):
    print(f"\n----- temperature {temperature} -----\n{text}")

# %% [markdown]
# 온도가 0이면 늘 확률이 가장 높은 문자만 고르기 때문에 곧 제자리를 맴돕니다. 1.5에서는 철자가
# 무너지고, 글을 닫는 END를 뽑아 일찍 끝나기도 합니다. 쓸 만한 온도는 그 사이에 있으며, 0.8로
# 시작하면 좋습니다.

# %%
text = one_step.generate("ROMEO:", num_tokens=1000, temperature=0.8, seed=2)
(out / "shakespeare.txt").write_text(text, encoding="utf-8")

# %% [markdown]
# ## 7. 가져가기
#
# `export`는 그래프와 가중치(weight)를 SavedModel로 저장합니다. 이 SavedModel은 글을 받아 글을
# 내놓으며, 온도와 시드는 요청할 때마다 입력으로 줍니다. TensorFlow에 들어 있는 로더(loader)만
# 있으면 쓸 수 있습니다.

# %%
version = km.export(
    one_step,
    out / "shakespeare",
    card={
        "data": repr(corpus),
        "split": "first 90 % of the characters, last 10 % held out",
        "held-out loss (nats a character)": losses.round(4).to_dict(),
        "command": "python tutorials/01_shakespeare.py",
    },
)
served = tf.saved_model.load(str(version)).signatures["serving_default"]
answer = served(
    prompt=tf.constant(["ROMEO:"]),
    num_tokens=tf.constant([1000]),
    temperature=tf.constant([0.8]),
    top_k=tf.constant([0]),
    top_p=tf.constant([1.0]),
    seed=tf.constant([2], tf.int64),
)
same = answer["text"].numpy()[0].decode() == text
print(f"{version}: the SavedModel writes the same {len(text)} characters: {same}")
if not same:
    raise SystemExit("The SavedModel writes another text: something is wrong.")

# %% [markdown]
# ## 배운 것
#
# - 글은 수의 열(sequence)입니다. 질문과 답은 같은 글인데, 한 문자만큼 어긋나 있습니다.
# - 훈련 전의 손실은 ln(V)입니다. 훈련한 뒤에는 따로 떼어 둔 글에서 잰 손실만 의미가 있습니다.
# - 순환 신경망(RNN)은 한 단계를 되풀이하는 것입니다. 여러분은 그 한 단계를 NumPy로 써 보았습니다.
# - 글이 지루해질지 엉터리가 될지는 온도가 정합니다.
#
# ## 연습 문제
#
# 점 세 개가 있는 자리에 답을 쓰고 셀을 다시 실행하세요.
#
# 1. 온도를 직접 적용해 보세요. 온도가 0.5일 때 `scores`에서 나오는 확률을 구하면 됩니다.

# %%
answer = ...  # your answer
km.explain.check(
    1,
    answer,
    lambda p: (
        np.isclose(sum(p), 1) and np.allclose(np.log(p), np.log(p)[0] + 2 * (scores - scores[0]))
    ),
)

# %% [markdown]
# 2. 온도가 0이면 늘 확률이 가장 높은 문자를 고릅니다. `one_step.generate`로 똑같은 글을 토큰(token)
#    250개로 쓰되, 온도는 1, 시드는 아무 값으로 두고, 다른 설정을 하나 이용하세요.

# %%
answer = ...  # your answer
km.explain.check(2, answer, texts[0])

# %% [markdown]
# 3. 이번에는 다른 언어를 봅시다. 글자로 적은 민요 선율입니다. 아직 전혀 훈련하지 않은 새 신경망의
#    손실은 얼마입니까? (토큰이 몇 개인지는 `their_tokenizer.vocab_size`로 알 수 있습니다.)

# %%
tunes = km.corpora.folk_tunes()[:500]
print(tunes[0])
their_tokenizer = km.tokenizers.CharTokenizer(tunes)
their_inputs, their_targets = next(iter(km.make_dataset(tunes, their_tokenizer)))
untrained = km.build_model(their_tokenizer.vocab_size)
their_loss = float(loss(their_targets, untrained(their_inputs)))
answer = ...  # your answer
km.explain.check(3, answer, their_loss, tolerance=0.005)

# %% [markdown]
# ## 참고 문헌
#
# - A. Karpathy, *The Unreasonable Effectiveness of Recurrent Neural Networks* (2015).
# - TensorFlow, *Text generation with an RNN* (튜토리얼).
# - K. Cho 외, *Learning Phrase Representations using RNN Encoder-Decoder* (2014).

# %%
print(f"done in {time.time() - started:.0f} s")
