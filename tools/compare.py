"""Today's code against what tools/reference.py kept of the old one.

    VOCALREP_HOME=HOME python tools/compare.py REFERENCE [part ...]

HOME is a fresh folder, or a copy of the old one to see that old stores and runs still open. Every line says `same`, or what differs and by how much.
"""
import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

torch.set_num_threads(1)
REFERENCE = Path(sys.argv[1])
FAULTS = []


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in arrays)).hexdigest()


def say(name, fault):
    print(f"{name}: {fault or 'same'}", flush=True)
    if fault:
        FAULTS.append(name)


def hold_digests(name, rows):
    old = pd.read_pickle(REFERENCE / f"{name}.pkl").set_index("what").digest
    new = pd.DataFrame(rows).set_index("what").digest
    wrong = [what for what in old.index if what not in new.index or new[what] != old[what]]
    say(name, f"{len(wrong)} of {len(old)} differ, such as {wrong[:4]}" if wrong else "")
    return wrong


def hold_table(name, new, rename=(), keys=(), drop=(), values=("value",), tolerance=0.0):
    "Rows with the same keys have the same values; says the largest difference."
    old = pd.read_pickle(REFERENCE / f"{name}.pkl").rename(columns=dict(rename)).drop(columns=[c for c in drop], errors="ignore")
    keys = [k for k in keys if k in old]
    filled = lambda t: t.assign(**{k: t[k].astype(object).where(t[k].notna(), "-").astype(str) for k in keys}).set_index(keys)[list(values)]
    a, b = filled(old), filled(new)
    if a.index.has_duplicates or b.index.has_duplicates:
        return say(name, f"keys are not unique: {a.index.has_duplicates} {b.index.has_duplicates}")
    if set(a.index) != set(b.index):
        return say(name, f"other rows: {len(set(a.index) - set(b.index))} of {len(a)} missing, such as {list(set(a.index) - set(b.index))[:2]}; {len(set(b.index) - set(a.index))} new, such as {list(set(b.index) - set(a.index))[:2]}")
    b = b.loc[a.index]
    worst, where = 0.0, ""
    for v in values:
        x, y = a[v], b[v]
        if x.dtype.kind == "f" or y.dtype.kind == "f":
            x, y = x.astype(float), y.astype(float)
            gap = (x - y).abs().where(~(x.isna() & y.isna()), 0.0).fillna(np.inf)
            if gap.max() > worst:
                worst, where = gap.max(), f"{v} at {gap.idxmax()}, {(gap > tolerance).sum()} of {len(gap)} rows"
        elif not (x.fillna("").astype(str) == y.fillna("").astype(str)).all():
            return say(name, f"{v} differs: {[(i, x[i], y[i]) for i in a.index if str(x[i]) != str(y[i])][:2]}")
    say(name, f"largest difference {worst:.3g} ({where})" if worst > tolerance else "")
    if 0 < worst <= tolerance:
        print(f"   (within {tolerance:g}: largest difference {worst:.3g})")


def papers():
    from vocalrep.papers.registry import find_papers
    return find_papers()


def studio():
    from vocalrep.studio.songs import render_clip, studio_table
    from vocalrep.studio.techniques import render_technique, techniques_table
    rows = []
    for seed in (0, 1):
        for row in studio_table(6, 2, 6.0, seed=seed).to_dict("records"):
            for rate in (16000, 44100):
                rows += [dict(what=f"{seed} {row['clip']} {rate} {stem}", digest=digest(wave)) for stem, wave in render_clip(row, rate=rate).items()]
    rows += [dict(what=f"technique {row['clip']}", digest=digest(render_technique(row, 44100))) for row in techniques_table(2).to_dict("records")[:24]]
    hold_digests("studio", rows)


def samplers():
    from vocalrep.report.paper import open_corpus
    rows = []
    for paper in (papers()["cvsm"], papers()["singer_identity"]):
        for protocol in ("released", "paper"):
            store, preset = open_corpus(paper, preset="smoke", progress=False), paper.preset("smoke", protocol)
            for name, variant in paper.variants(protocol, "smoke").items():
                for k, stage in enumerate(variant.stages):
                    opened = stage.sampling.prepare(store, False)
                    for split in ("train", "valid"):
                        sampler = stage.sampling.build(opened, preset.step_pairs, preset.batch, split, [3, k])
                        for j in range(max(1, 1000 // preset.step_pairs)):
                            drawn = sampler.step()
                            rows += [dict(what=f"{name} {protocol} {k} {split} {j} {side} {i} {layer.source}", digest=digest(layer.rows, layer.offsets, layer.gains.astype(np.float32)))
                                     for side, view in zip(("anchor", "positive"), drawn.views) for i, layer in enumerate(view)]
                    training = stage.sampling.build(opened, preset.step_pairs, preset.batch, "train", [3, k])
                    batches = list(training.batches(drawn, seed=[3, 0]))[:2]
                    rows.append(dict(what=f"{name} {protocol} {k} waves", digest=digest(*(w.numpy() for b in batches for w in b.views))))
    hold_digests("samplers", rows)


def runs():
    from vocalrep.report.paper import open_corpus, train_variant
    rows = []
    for protocol in ("released", "paper"):
        for paper in (papers()["cvsm"], papers()["singer_identity"]):
            store = open_corpus(paper, preset="smoke", progress=False)
            for name in paper.variants(protocol, "smoke"):
                run = train_variant(paper, name, store, "smoke", 0, protocol, device="cpu", progress=False)
                rows.append(dict(what=f"{name} {protocol} weights", digest=hashlib.sha256((run.folder / "encoder.safetensors").read_bytes()).hexdigest()))
                rows.append(dict(what=f"{name} {protocol} history", digest=run.history.drop(columns="seconds").to_csv(index=False)))
    for what in hold_digests("runs", rows):
        if what.endswith("history"):
            old = pd.read_pickle(REFERENCE / "runs.pkl").set_index("what").digest[what]
            print(what, old, pd.DataFrame(rows).set_index("what").digest.get(what), sep="\n")
            break


SCORES = ["system", "seed", "condition", "task", "metric", "normalisation", "probe", "seconds", "fraction", "repetition"]


def cvsm():
    from vocalrep.evaluation.sensitivity import factor_distances
    from vocalrep.evaluation.tasks import TestCorpus
    from vocalrep.report.claims import published_claims, test_claims
    from vocalrep.report.maps import cluster_systems, map_systems, overlap_scores, overlap_systems
    from vocalrep.report.paper import open_corpus
    from vocalrep.report.published import beside_published
    from vocalrep.report.scores import evaluate, summarise
    from vocalrep.report.systems import find_systems
    paper = papers()["cvsm"]
    corpus = TestCorpus("studio", open_corpus(paper, preset="smoke", progress=False))
    valid = TestCorpus("studio", corpus.store, "valid")
    mode = dict(mode="condition")
    for protocol in ("released", "paper"):
        systems = find_systems(paper, corpus.store, "smoke", 0, 1, protocol=protocol, device="cpu", progress=False)
        tasks = paper.tasks(protocol)
        scores = evaluate(systems, [corpus], [tasks[k] for k in ("gender", "artist", "similarity")], device="cpu", progress=False)
        hold_table(f"cvsm_scores_{protocol}", scores, mode, SCORES, values=("value", "artists", "clips", "reduced"), tolerance=1e-12)
        few = evaluate(systems, [corpus], [paper.tasks(protocol)["few labels, smoke"]], device="cpu", progress=False)
        hold_table(f"cvsm_few_{protocol}", few, mode, SCORES, values=("value", "reduced"), tolerance=1e-12)
        if protocol == "paper":
            continue
        exact = evaluate(systems, [corpus], [tasks["artist, exact"]], device="cpu", progress=False)
        hold_table("cvsm_exact", exact, mode, SCORES, tolerance=1e-12)
        pairs = evaluate(systems, [corpus], [tasks["all pairs"]], device="cpu", progress=False)
        wide = pairs.pivot_table(index=["system", "seed", "condition", "normalisation"], columns="metric", values="value").reset_index()
        hold_table("cvsm_pairs", wide, mode, ["system", "seed", "condition", "normalisation"], values=("eer", "mnr"), tolerance=1e-12)
        mapped = [s for s in systems if s.name in ("CVSM-A", "CVSM-AH", "COLA", "MSCOL", "COLA-ART", "CVSM-ART")]
        clusters = []
        for label in ("gender", "artist"):
            points = map_systems(mapped, valid, label, device="cpu")
            hold_table(f"cvsm_map_{label}", points, keys=["system", "seed", "repetition", "clip"], values=("x", "y"), tolerance=1e-3)
            clusters.append(cluster_systems(mapped, valid, label, points, device="cpu"))
        clusters = pd.concat(clusters, ignore_index=True)
        raw = clusters.assign(label=clusters.task.str.split().str[0], space=np.where(clusters.task.str.endswith("embedding"), "embedding", "plane"), score=clusters.metric)
        hold_table("cvsm_clusters", raw, keys=["system", "seed", "label", "space", "score", "repetition"], tolerance=1e-4)
        overlap = overlap_systems(systems, corpus, device="cpu")
        hold_table("cvsm_overlap", overlap, mode, ["condition", "seed", "system", "other"], values=("share", "queries"))
        everything = pd.concat([scores, few, overlap_scores(overlap, corpus), clusters]).dropna(subset="value")
        told = test_claims(everything, paper)
        hold_table("cvsm_claims", told, keys=["claim"], values=("effect", "low", "high", "verdict", "comparisons", "holds", "fails", "untested"), tolerance=1e-3)
        hold_table("cvsm_published_claims", published_claims(paper), keys=["claim"], values=("published", "supported"))
        results = summarise(scores[scores["condition"] == "mixture"], paper.name, "table2", "smoke")
        hold_table("cvsm_summary", results, mode, [k for k in SCORES if k not in ("seed", "repetition")], values=("mean", "sd", "n"), tolerance=1e-12)
        beside = beside_published(results, paper, "table2")
        hold_table("cvsm_beside", beside, mode, ["system", "condition", "task", "metric"], values=("ours_mean", "ours_sd", "published_mean", "published_sd"), tolerance=1e-12)
        wanted = [s for s in systems if s.name in ("CVSM-AH", "COLA", "mean MFCC", "GE2E")]
        heard = factor_distances({s.name: s.make("cpu") for s in wanted}, songs=2)
        heard = heard.rename(columns=dict(mode="condition"))
        hold_table("cvsm_sensitivity", heard, mode, ["factor", "song", "system", "condition"], values=("distance",), tolerance=1e-5)


def singers():
    from vocalrep.papers.singer_identity import conditions
    from vocalrep.report.scores import evaluate, summarise
    from vocalrep.report.systems import find_systems
    from vocalrep.evaluation.tasks import TestCorpus
    from vocalrep.report.paper import open_corpus
    paper, first = papers()["singer_identity"], papers()["cvsm"]
    store = open_corpus(paper, preset="smoke", progress=False)
    old = dict(rate="condition", singers="artists")
    bands = {16.0: "16 kHz", 44.1: "44.1 kHz"}
    for protocol in ("released", "paper"):
        systems = find_systems(paper, store, "smoke", 0, 1, protocol=protocol, device="cpu", progress=False)
        corpora = conditions.find_voices(paper, store, "", "smoke")
        task = conditions.similarity_task(paper.protocol(protocol).rank, trials=2000)
        similarity = evaluate(systems, corpora, [task], device="cpu", progress=False)
        keys = ["system", "seed", "corpus", "role", "condition", "metric", "normalisation"]
        table = similarity.assign(condition=similarity.condition.map({v: k for k, v in bands.items()}))
        hold_table(f"singers_similarity_{protocol}", table, old, keys, values=("value", "trials", "artists", "clips", "reduced"), tolerance=1e-12)
        if protocol == "paper":
            continue
        named = evaluate(systems, corpora[1:], [conditions.identification_task(both=True)], device="cpu", progress=False)
        table = named.assign(condition=named.condition.map({v: k for k, v in bands.items()}))
        hold_table("singers_identification", table, old, keys, values=("value", "trials", "artists", "clips", "reduced"), tolerance=1e-12)
        table3 = summarise(similarity, paper.name, "table3", "smoke")
        new = table3.assign(condition=table3.condition.map({v: k for k, v in bands.items()}))
        hold_table("singers_table3", new, old, ["system", "corpus", "role", "condition", "metric", "normalisation"], values=("mean", "sd", "seeds", "trials", "artists", "clips", "reduced"), tolerance=1e-12)
        from vocalrep.papers.singer_identity.claims import beside_floors
        from vocalrep.report.claims import judge_in_words
        judged = judge_in_words(table3, paper)
        hold_table("singers_judged3", judged, keys=["claim"], values=("verdict", "ahead", "comparisons", "least", "most", "numbers", "missing", "published"), tolerance=1e-12)
        hold_table("singers_floors", beside_floors(table3), keys=["framework", "corpus", "floor"], values=("eer", "floor_eer", "gain"), tolerance=1e-12)
        mixed = open_corpus(first, preset="smoke", progress=False)
        both = find_systems(first, mixed, "smoke", 0, names=["CVSM-AH", "GE2E", "mean MFCC"], device="cpu", progress=False)
        heard = [*both, *(s for s in systems if s.name in ("CONT", "untrained"))]
        dry = evaluate(heard, [TestCorpus("studio", mixed)], [conditions.dry_and_mixed_task()], device="cpu", progress=False)
        hold_table("singers_dry_and_mixed", dry.rename(columns=dict(value="eer")), dict(mode="condition"), ["system", "seed", "condition", "normalisation"], values=("eer", "artists", "clips"), tolerance=1e-12)


if __name__ == "__main__":
    for part in sys.argv[2:] or ("studio", "samplers", "runs", "cvsm", "singers"):
        globals()[part]()
    print(f"{len(FAULTS)} faults: {', '.join(FAULTS)}" if FAULTS else "all the same")
    sys.exit(bool(FAULTS))
