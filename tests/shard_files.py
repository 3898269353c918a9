"""A folder of shards as `ingest` writes them, from ids that a test thought of."""

from keras_music import records


def write(folder, sides, tokenizer):
    """A folder of shards: `sides` is {"train": [shard, ...]}, a shard a list of (name, ids)."""
    folder.mkdir(exist_ok=True)
    rows = []
    for side, shards in sides.items():
        for number, pieces in enumerate(shards):
            examples = [(len(ids), records.example(ids, name)) for name, ids in pieces]
            data, row = records.shard(examples)
            file = f"{side}-{number:05d}.tfrecord"
            (folder / file).write_bytes(data)
            rows.append({"file": file, "split": side, **row})
    tokenizer.save(folder / "tokenizer.json")
    key = records.tokenizer_key(tokenizer.to_json())
    text = records.manifest_json({"tokenizer": key, "reports": ["report.csv"]}, rows)
    (folder / "manifest.json").write_text(text)
    (folder / "report.csv").write_text("name,kept,tempo_bpm\nNA,True,120.0\nb.mid,False,\n")
    return folder
