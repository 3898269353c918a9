# %% [markdown]
# # 손으로 계산하는 층
#
# 음악을 쓰는 신경망은 학교에서 배운 계산을 쌓아 올린 것입니다. 더하기와 곱하기, 그리고 그 결과를
# 구부리는 곡선이 전부입니다. 여기서는 임베딩(embedding)부터 기억 셀까지 신경망의 모든 층(layer)을,
# 연필만 있으면 될 만큼 작은 수로 직접 계산합니다. 마지막에는 이 층들을 이어서, 다음에 어떤 토큰이
# 올지 말해 주는 신경망을 만듭니다. 예제는 강의 *A.I. for Music: MIDI generation in deep learning*에
# 나온 것입니다. 강의 슬라이드의 수가 여기와 다르면 그때마다 밝힙니다.
#
# Python과 중고등학교 수학만 알면 되고, 딥러닝은 몰라도 됩니다. 몇 초면 끝나며, GPU도 다운로드도
# 필요 없습니다. 절은 대부분 세 부분으로 되어 있습니다. 먼저 NumPy 한두 줄로 계산하고, 이어서 같은
# 계산을 모든 단계가 적힌 풀이(`km.explain`)로 봅니다. 풀이에 나오는 값은 화면에 보여 주기 전에
# Keras의 실제 층과 비교해 확인합니다. 끝으로 그림을 봅니다. 그림은 `out/`에도 저장됩니다.

# %%
import os
import pathlib
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
# ## 1. 음악을 수로 바꾸기
#
# 신경망은 수만 읽을 수 있습니다. 그래서 먼저 음악을 *토큰*(token)을 차례로 늘어놓은 것, 곧 토큰의
# 열(sequence)로 적습니다. 토큰은 "60번 건반을 누른다"와 같은 낱말이고, 토큰마다 *id*라는 번호가
# 있습니다. 아래에서는 음 네 개를 표로, 토큰으로, id로 나타냅니다(pitch 60은 가온 다이고, 시간의
# 단위는 초입니다). `NOTE_ON_60`은 60번 건반을 누르고, `TIME_SHIFT_50`은 100분의 50초를 기다리고,
# `NOTE_OFF_60`은 그 건반을 뗍니다. `START`와 `END`는 처음과 끝을 나타냅니다(`velocity_bins=0`:
# 건반을 얼마나 세게 치는지는 적지 않습니다).

# %%
melody = km.Piece(
    [
        {"pitch": 60, "start": 0.0, "end": 0.5},
        {"pitch": 62, "start": 0.5, "end": 1.0},
        {"pitch": 64, "start": 1.0, "end": 1.5},
        {"pitch": 60, "start": 1.5, "end": 2.0},
    ],
    name="Brother John",
)
tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0)
ids = tokenizer.encode(melody)
print(melody.notes[["pitch", "start", "end"]].to_string())
for number, token in zip(ids, tokenizer.tokens(ids), strict=True):
    print(f"{number:4}  {token}")
km.audio.player(melody)

# %% [markdown]
# ## 2. 임베딩: 토큰마다 자기만의 수를
#
# id는 크기를 뜻하지 않습니다. 65가 63보다 "더 크다"는 뜻은 아닙니다. 308은 건반도 아니고 기다리라는
# 토큰입니다. 그래서 *임베딩*이라는 층은 토큰마다 한 행씩 있는 표를 가지고 있고(있을 수 있는 모든
# 토큰을 통틀어 *어휘*(vocabulary)라고 하며, 표에는 어휘 전체의 행이 있습니다), id는 그중 어느 행을
# 꺼낼지만 알려 줍니다. 토큰이 0, 1, 2 세 개이고, 토큰마다 수가 세 개씩 있다고 해 봅시다.

# %%
table = np.array([[0.1, -0.4, 0.5], [-0.4, 0.8, 1.2], [-0.4, -0.2, 0.7]])  # a row for each token
print("token 2 is", table[2])
print("tokens 1, 0, 1 are\n", table[[1, 0, 1]])

# %% [markdown]
# 이것이 전부입니다. 그런데 같은 결과를 얻는 방법이 하나 더 있습니다. 이 방법을 보면 왜 훈련으로 이
# 표도 다른 모든 것과 똑같이 바꿀 수 있는지 알 수 있습니다. id를, 한 자리만 1이고 나머지는 모두 0인
# 행(*원-핫*, one-hot)으로 적은 다음 표와 곱하는 것입니다. 아래 풀이에서는 두 방법을 모두 씁니다.
# 풀이에 나오는 `(time, vocab_size) = (3, 3)`은 *모양*(shape)입니다. 각 방향에 수가 몇 개 있고, 그
# 방향을 무엇이라고 부르는지 알려 줍니다. `a @ b`는 두 행렬의 곱입니다. a의 각 행과 b의 각 열을
# 짝지어, 같은 자리의 수끼리 곱한 다음 모두 더합니다.

# %%
page = km.explain.embedding([1, 0, 1], table)

# %%
page.draw(out / "embedding.png")

# %% [markdown]
# ## 3. 완전 연결층: 모든 입력의 가중합
#
# *완전 연결층*(*dense* 또는 *fully connected* layer)은 수 몇 개를 x로 받아 다른 수를 내놓습니다.
# 출력 하나하나는, 입력마다 *가중치*(weight)를 하나씩 곱해 모두 더한 값입니다. 훈련을 하면 바뀌는
# 것이 바로 이 가중치입니다. (대부분의 층은 합마다 자기 수를 하나 더 더합니다. 이 수를
# *편향*(bias)이라고 합니다. 여기서는 0이므로 적지 않습니다.)

# %%
x = np.array([2, 3, 1])
w = np.array([-1, -2, 0.5])
total = 2 * (-1) + 3 * (-2) + 1 * 0.5
print("by hand:", total, "  with NumPy:", x @ w)

# %% [markdown]
# (강의 슬라이드에는 이 합이 5.5로 나와 있지만, 맞는 값은 -7.5입니다. 사람은 이렇게 실수하기 쉬우니,
# 수는 기계로 검산하는 것이 좋습니다.)
#
# 합을 다시 더해도 결국 합입니다. 그래서 이런 층 둘을 이어 붙여도 층 하나로 할 수 있는 일밖에 하지
# 못합니다. 그 때문에 합을 구할 때마다 그 값을 곡선에 통과시키는데, 이 곡선을 *활성화
# 함수*(activation)라고 합니다. 다음 네 가지가 널리 쓰입니다. 그 가운데 둘은 처음 볼지도 모릅니다.
# sigmoid(x) = 1 / (1 + e^-x)이고, tanh(x) = (e^x - e^-x) / (e^x + e^-x)입니다.

# %%
line = np.linspace(-4, 4, 161)
curves = {
    "sigmoid": 1 / (1 + np.exp(-line)),  # from 0 to 1: a gate, or a probability
    "tanh": np.tanh(line),  # from -1 to 1: a memory that cannot grow without end
    "ReLU": np.maximum(line, 0),  # cuts off what is negative
    "SiLU": line / (1 + np.exp(-line)),  # a ReLU without the corner
}
figure = km.plots.Picture(figsize=(10, 2.6), layout="constrained")
for axes, (name, values) in zip(figure.subplots(1, 4), curves.items(), strict=True):
    axes.plot(line, values, color=km.plots.BLUE)
    axes.set_title(name)
    axes.grid(alpha=0.3)
figure.savefig(out / "activations.png")
figure

# %% [markdown]
# tanh를 쓰면 위에서 구한 합의 출력은 다음과 같습니다.

# %%
page = km.explain.dense(x, w, activation="tanh")

# %% [markdown]
# 거의 -1이지만 꼭 -1은 아닙니다. tanh는 결코 -1에 이르지 않습니다.
#
# 출력이 여러 개이면, 같은 입력으로 합을 여러 개 구하되 합마다 다른 가중치를 씁니다. 강의에서는 출력
# 하나의 가중치를 **행** 하나에 적습니다.

# %%
x = np.array([2, 3, -1])
W = np.array([[-1, -2, 0.5], [0.5, 0.5, 1]])  # a row an output, as on the slide
sums = np.array([2 * (-1) + 3 * (-2) + (-1) * 0.5, 2 * 0.5 + 3 * 0.5 + (-1) * 1])
print("by hand:", sums, "  with NumPy:", W @ x)

# %% [markdown]
# (여기에서도 슬라이드의 첫째 합 -5.5는 -8.5로 고쳐야 합니다. 둘째 합은 맞습니다.)
#
# Keras는 출력 하나의 가중치를 **열** 하나에 두고, 이 행렬을 *커널*(kernel)이라고 부릅니다.
# 슬라이드의 행렬에서 행과 열을 맞바꾼 것(`.T`)입니다. 모양에 나오는 이름 가운데 *features*(특성)는
# 입력이고, *units*(유닛)는 출력입니다.

# %%
page = km.explain.dense(x, W.T, activation="tanh")

# %%
page.draw(out / "dense.png")

# %% [markdown]
# ## 4. 소프트맥스(softmax)와 손실(loss): 점수에서 놀라움으로
#
# 신경망의 끝에는 토큰마다 출력이 하나씩 있는 완전 연결층이 있습니다. 이 출력을 *점수*(score) 또는
# *로짓*(logit)이라고 합니다. *소프트맥스*는 점수를 확률로 바꿉니다. e를 각 점수만큼 거듭제곱한
# 다음, 그것을 모두 더한 값으로 나눕니다. *손실*은 실제로 나온 토큰을 보고 얼마나 놀랐는지를
# 나타냅니다. 그 토큰의 확률에 로그를 취하고 음의 부호를 붙인 값입니다. 틀림없이 나온다고 본 토큰이
# 나오면 손실은 0입니다.

# %%
scores = np.array([2.0, 1.0, 0.1])
powers = np.exp(scores)
probabilities = powers / powers.sum()
print("probabilities:", probabilities.round(3))
print("loss if token 0 comes:", -np.log(probabilities[0]))

# %% [markdown]
# 아래 풀이에서는 먼저 모든 점수에서 가장 큰 점수를 뺍니다. 거듭제곱한 값이 너무 커지지 않게 하려는
# 것입니다. 모든 거듭제곱을 똑같은 수로 나누는 셈이므로 확률은 바뀌지 않습니다. *클래스*(class)는
# 나올 수 있는 답들이고, *타깃*(target)은 그중 실제로 나온 답이며, 손실의 단위는 *내트*(nat)입니다.

# %%
page = km.explain.softmax_cross_entropy(scores, 0)

# %% [markdown]
# 풀이의 마지막 줄에 있는 *기울기*(gradient)가 훈련에 쓰입니다. 점수가 바뀔 때 손실이 어떻게
# 바뀌는지를 나타내는 값입니다. 정답 토큰에서는 음수이고(점수가 올라가야 합니다), 나머지 토큰에서는
# 모두 양수입니다.

# %%
page.draw(out / "softmax.png")

# %% [markdown]
# ## 5. RNN 셀: 기억이 있는 층
#
# 마지막 음 하나만 보아서는 선율을 알 수 없습니다. *순환*(recurrent) 셀, 곧 순환 신경망(RNN)의
# 셀(cell)에는 수 몇 개로 된 기억(memory) h가 있습니다. h를 은닉 상태(hidden state)라고도 합니다.
# 셀은 순간마다 입력 x와 이전 기억으로 새 기억을 계산합니다. x와 h를 나란히 놓아 한 행으로 만들어서
# 읽는 완전 연결층이라고 보면 됩니다.

# %%
x = np.array([2, 3, -1])
h = np.array([-1, 1])
W = np.array([[-1, -2, 0.5, 1, 2], [0.5, 0.5, 1, -1, -0.5]])  # for 3 inputs and 2 memories
print("sums:", W @ np.concatenate([x, h]), "  new memory:", np.tanh(W @ np.concatenate([x, h])))

# %% [markdown]
# Keras는 입력에 곱하는 가중치(*커널*)와 기억에 곱하는 가중치(*순환 커널*, recurrent kernel)를 두
# 행렬에 나누어 둡니다. 그래서 슬라이드의 행렬을 셋째 열 뒤에서 둘로 자릅니다. (Keras는 편향도
# 더하는데, 여기서는 0입니다.)

# %%
kernel, recurrent_kernel = W[:, :3].T, W[:, 3:].T
page = km.explain.rnn_cell(x, h, kernel, recurrent_kernel)

# %%
page.draw(out / "rnn_cell.png")

# %% [markdown]
# ## 6. 펼치기(unfolding): 순간마다 같은 셀
#
# 선율이 이어지는 동안 같은 셀을 같은 가중치로 되풀이해 씁니다. 첫째 음을 읽고 난 기억을, 둘째
# 순간에 둘째 음과 함께 읽습니다. 순간마다 셀을 하나씩 나란히 그린 것이 *펼친*(unfolded)
# 신경망입니다.

# %%
sequence = table[[1, 0, 2, 1]]  # four tokens, embedded
memory = np.zeros(2)
for vector in sequence:
    memory = np.tanh(vector @ kernel + memory @ recurrent_kernel)
    print(memory.round(3))
page = km.explain.unfold(sequence, kernel, recurrent_kernel)

# %%
page.draw(out / "unfold.png")

# %% [markdown]
# ## 7. GRU와 LSTM: 게이트(gate)
#
# 단순한 셀은 순간마다 기억 전체를 새로 쓰기 때문에 금방 잊어버립니다. *게이트*는 0과 1 사이의
# 수입니다. 시그모이드(sigmoid)를 쓰는 여느 완전 연결층처럼 계산해서 다른 값에 곱합니다. 0이면 그
# 값을 막고, 1이면 그대로 통과시킵니다. *GRU*에는 게이트가 두 개 있습니다. 기억이 하나일 때를 말로
# 적으면 이렇습니다.
#
#     z = sigmoid(...)             이전 기억을 얼마나 남길까
#     r = sigmoid(...)             새 생각에 이전 기억을 얼마나 쓸까
#     c = tanh(... r ...)          새 생각
#     h' = z * h + (1 - z) * c     새 기억: 이전 기억과 새 생각을 섞은 것
#
# z가 1에 가까우면 기억은 필요한 만큼 오랫동안 그대로 남습니다. 풀이에서 `[x, h]`는 x 뒤에 h를 이어
# 붙인 것이고, `W_z`는 커널에서 z를 계산하는 열, `U_z`는 순환 커널에서 z를 계산하는 열입니다.

# %%
x, h = np.array([1.0, -0.5]), np.array([0.8])
kernel = np.array([[0.5, -1.0, 1.0], [1.0, 0.5, -2.0]])  # columns: for z, for r, for c
recurrent_kernel = np.array([[2.0, 1.0, 0.5]])
page = km.explain.gru_cell(x, h, kernel, recurrent_kernel)

# %%
page.draw(out / "gru_cell.png")

# %% [markdown]
# *LSTM*은 GRU보다 먼저 나왔습니다. 게이트가 세 개이고 두 번째 기억 c가 있는데, 시간이 흐르는 동안
# 이 기억에는 곱하기와 더하기만 합니다. (GRU에서는 c가 새 생각이었습니다. 여기서는 새 생각을 g라고
# 부릅니다.)
#
#     i = sigmoid(...)             새 생각을 얼마나 받아들일까
#     f = sigmoid(...)             긴 기억을 얼마나 남길까
#     g = tanh(...)                새 생각
#     o = sigmoid(...)             긴 기억을 얼마나 내보일까
#     c' = f * c + i * g           새로운 긴 기억
#     h' = o * tanh(c')            새로운 짧은 기억이자 출력

# %%
c = np.array([1.5])
kernel = np.array([[0.5, -1.0, 1.0, 0.5], [1.0, 0.5, -2.0, 0.0]])  # columns: for i, f, g, o
recurrent_kernel = np.array([[1.0, 2.0, 0.5, 1.0]])
page = km.explain.lstm_cell(x, h, c, kernel, recurrent_kernel)

# %%
page.draw(out / "lstm_cell.png")

# %% [markdown]
# ## 8. 어텐션(attention): 기억하는 대신 돌아보기
#
# *트랜스포머*(Transformer)에는 기억 셀이 없습니다. 각 순간은 자기 자신과 그 앞의 모든 순간을 보고,
# 각각에서 얼마씩 가져옵니다. 보는 쪽은 *쿼리*(query)로 묻고, 보이는 쪽은 저마다 *키*(key)를
# 내놓습니다. 둘이 얼마나 잘 맞는지는 같은 자리의 수끼리 곱한 다음 모두 더해서 구합니다. 이것이
# *점수*입니다. 점수를 소프트맥스에 넣으면, 보이는 쪽의 *값*(value)을 얼마의 비율로 가져올지가
# 나옵니다. 쿼리, 키, 값은 그 순간을 입력으로 받는 완전 연결층 세 개의 출력입니다. 여기서는 세 층의
# 행렬이 아무것도 바꾸지 않습니다(`np.eye`: 대각선이 1인 행렬).
#
# 풀이에서 두 가지를 눈여겨보세요. 하나는 점수를 열(column)의 수의 제곱근으로 나눈다는 것입니다.
# 행이 길어도 점수가 너무 커지지 않게 하려는 것입니다. 다른 하나는 아직 오지 않은 순간의 점수를
# -inf(음의 무한대)로 둔다는 것입니다. e를 그만큼 거듭제곱하면 0이 되기 때문입니다. 풀이에서
# *weights*라고 하는 것이 바로 가져오는 비율입니다.

# %%
moments = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # three moments, two numbers each
same = np.eye(2)  # queries, keys and values are here the moments themselves
page = km.explain.attention_head(moments, same, same, same)

# %%
page.draw(out / "attention.png")

# %% [markdown]
# ## 9. 모두 합치기: 다음에 올 토큰은?
#
# 임베딩, RNN, 완전 연결층, 소프트맥스를 이으면 다음 토큰을 예측하는 신경망이 됩니다. 지금까지 쓴
# 수에, 세 토큰의 점수를 하나씩 내는 마지막 층을 더해 손으로 계산해 봅시다.

# %%
kernel, recurrent_kernel = W[:, :3].T, W[:, 3:].T
last_kernel = np.array([[1.0, -1.0, 0.5], [0.5, 2.0, -1.0]])  # (units, vocab_size)
memory = np.zeros(2)
for token in [1, 0, 2]:
    memory = np.tanh(table[token] @ kernel + memory @ recurrent_kernel)
powers = np.exp(memory @ last_kernel)
by_hand = powers / powers.sum()
print("probabilities of the tokens 0, 1, 2:", by_hand.round(4))

# %% [markdown]
# 이 패키지는 같은 신경망을 Keras의 층으로 만듭니다. 결과가 똑같아야 합니다. (id를 둘러싼 바깥쪽
# 괄호는 *배치*(batch)입니다. 신경망은 여러 열을 한꺼번에 읽는데, 여기서는 하나만 읽습니다.)

# %%
model = km.build_model(vocab_size=3, cell="rnn", embedding_dim=3, units=2)
model.set_weights([table, kernel, recurrent_kernel, np.zeros(2), last_kernel, np.zeros(3)])
scores = model(np.array([[1, 0, 2]]))[0, -1]
by_keras = np.array(keras.ops.softmax(scores))
print("and by Keras:                       ", by_keras.round(4))
if not np.allclose(by_hand, by_keras, atol=1e-6):
    raise SystemExit("The network by hand and Keras' differ: something is wrong.")
model.summary()

# %% [markdown]
# 수가 모두 서른 개입니다. 그중 다섯 개는 편향이고, 여기서는 0입니다. 튜토리얼 2에서 코랄(chorale)을
# 쓰는 신경망에는 이런 수가 360,000개쯤 있고, 아무도 그 값을 손으로 정하지 않습니다. 처음에는 무작위
# 값으로 시작합니다. 그다음에는 훈련을 하면서 하나하나를 조금씩, 되풀이해서 움직여 4절의 손실을 줄여
# 갑니다. 다음 튜토리얼에서는 글(`01_shakespeare.py`)과 음악(`02_bach_chorales.py`)으로 이 훈련을
# 합니다.
#
# ## 배운 것
#
# - 임베딩은 표이고, 표에서 행을 찾는 것은 원-핫 행을 곱하는 것과 같습니다.
# - 완전 연결층은 가중합과 곡선입니다. 점수는 소프트맥스를 거쳐 확률이 됩니다.
# - 손실은 실제로 나온 것에 대한 놀라움, 곧 -ln(확률)입니다.
# - RNN 셀은 자기 출력을 다시 읽는 완전 연결층입니다. 무엇을 간직할지는 게이트가 정합니다.
# - 신경망은 이런 층을 차례로 이은 것이며, 그 안의 모든 수는 손으로 확인할 수 있습니다.
#
# ## 연습 문제
#
# 점 세 개가 있는 자리에 답을 쓰고 셀을 다시 실행하세요.
#
# 1. 가중치가 (1, -1, 2)이고 활성화 함수가 ReLU인 완전 연결층이 있습니다. x = (3, 5, 0.5)일 때
#    출력은 얼마입니까?

# %%
answer = ...  # your answer
km.explain.check(1, answer, lambda y: y == max(0, np.dot([3, 5, 0.5], [1, -1, 2])))

# %% [markdown]
# 2. 아무것도 모르는 신경망이 있습니다. 토큰 359개의 점수가 모두 0입니다. 어떤 토큰이 나오든 손실은
#    같습니다. 얼마입니까?

# %%
answer = ...  # your answer
km.explain.check(2, answer, -np.log(1 / 359))

# %% [markdown]
# 3. 함수를 완성하세요. 게이트 z의 값이 주어졌을 때 GRU가 하는 한 단계입니다. z = 1이면 아무것도
#    바뀌지 않습니다.

# %%


def gru_mixture(z, h, c):
    return ...  # your answer


km.explain.check(3, gru_mixture(0.25, 0.8, -0.4), 0.25 * 0.8 + (1 - 0.25) * -0.4)

# %% [markdown]
# ## 참고 문헌
#
# - J. Elman, *Finding Structure in Time* (1990): 단순한 순환 셀.
# - S. Hochreiter와 J. Schmidhuber, *Long Short-Term Memory* (1997).
# - K. Cho 외, *Learning Phrase Representations using RNN Encoder-Decoder* (2014): GRU.
# - A. Vaswani 외, *Attention Is All You Need* (2017).

# %%
print(f"done in {time.time() - started:.0f} s")
