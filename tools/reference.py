"""What the code gave before the house was rebuilt: run with the old worktree on PYTHONPATH.

    VOCALREP_HOME=HOME PYTHONPATH=WORKTREE python tools/reference.py OUT [part ...]

Parts: studio, samplers, runs, cvsm, singers. Each writes plain files below OUT, which tools/compare.py holds against today's.
"""
import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

torch.set_num_threads(1)
OUT = Path(sys.argv[1])
OUT.mkdir(parents=True, exist_ok=True)


def keep(name, table):
    table.to_pickle(OUT / f"{name}.pkl")
    print(name, len(table), flush=True)


def studio():
    from vocalrep.studio import render_clip, studio_table
    from vocalrep.techniques import render_technique, techniques_table
    rows = []
    for seed in (0, 1):
        table = studio_table(6, 2, 6.0, seed=seed)
        for row in table.to_dict("records"):
            for rate in (16000, 44100):
                for stem, wave in render_clip(row, rate=rate).items():
                    rows.append(dict(what=f"{seed} {row['clip']} {rate} {stem}", digest=hashlib.sha256(wave.tobytes()).hexdigest()))
    for row in techniques_table(2).to_dict("records")[:24]:
        rows.append(dict(what=f"technique {row['clip']}", digest=hashlib.sha256(render_technique(row, 44100).tobytes()).hexdigest()))
    keep("studio", pd.DataFrame(rows))


def layers(name, k, drawn):
    return [dict(what=f"{name} {k} {side} {i} {layer.source}", digest=hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in (layer.rows, layer.offsets, layer.gains.astype(np.float32)))).hexdigest())
            for side in ("anchor", "positive") for i, layer in enumerate(getattr(drawn, side))]


def samplers():
    from vocalrep.project import find_preset
    from vocalrep.recipes import make_recipe
    from vocalrep.store import open_store
    from vocalrep.variants import VARIANTS, find_protocol
    rows = []
    for name, variant in VARIANTS.items():
        for protocol in ("released", "paper"):
            store = open_store("studio", "", "smoke", paper=variant.paper, progress=False)
            recipe = make_recipe(variant, find_protocol(protocol, variant.paper), find_preset("smoke", variant.paper), store, False)
            for stage in range(len(variant.stages)):
                for split in ("train", "valid"):
                    sampler = recipe.sampler(split, stage, 3)
                    for k in range(max(1, 1000 // recipe.preset.step_pairs)):
                        drawn = sampler.step()
                        rows += layers(f"{name} {protocol} {stage} {split}", k, drawn)
                batches = list(recipe.batches(drawn, seed=[3, 0]))[:2]
                rows.append(dict(what=f"{name} {protocol} {stage} waves", digest=hashlib.sha256(b"".join(w.numpy().tobytes() for b in batches for w in b)).hexdigest()))
    keep("samplers", pd.DataFrame(rows))


def runs():
    from vocalrep.store import open_store
    from vocalrep.training import train
    from vocalrep.variants import VARIANTS
    rows = []
    for protocol in ("released", "paper"):
        for name, variant in VARIANTS.items():
            run = train(name, open_store("studio", "", "smoke", paper=variant.paper, progress=False), "smoke", 0, protocol, device="cpu", progress=False)
            history = run.history.drop(columns="seconds")
            rows.append(dict(what=f"{name} {protocol} weights", digest=hashlib.sha256((run.folder / "encoder.safetensors").read_bytes()).hexdigest()))
            rows.append(dict(what=f"{name} {protocol} history", digest=history.to_csv(index=False)))
            print(rows[-2], flush=True)
    keep("runs", pd.DataFrame(rows))


def cvsm():
    from vocalrep.claims import CLAIMS, test_claims
    from vocalrep.evaluation import cluster_scores, find_systems, overlap_scores, pair_scores, project_clips, score_systems, summarise
    from vocalrep.factors import factor_distances
    from vocalrep.published import beside_published, published_results
    from vocalrep.claims import published_claims
    from vocalrep.store import open_store
    store = open_store("studio", "", "smoke", progress=False)
    for protocol in ("released", "paper"):
        systems = find_systems(store, "smoke", 0, 1, protocol=protocol, device="cpu", progress=False)
        scores = score_systems(systems, store, protocol=protocol, device="cpu", progress=False)
        keep(f"cvsm_scores_{protocol}", scores)
        few = score_systems(systems, store, tasks=("artist",), protocol=protocol, device="cpu", progress=False, fractions=(0.5,), seconds=(None,))
        keep(f"cvsm_few_{protocol}", few)
        if protocol == "paper":
            continue
        exact = score_systems(systems, store, tasks=("artist",), protocol=protocol, device="cpu", progress=False, probe="exact", seconds=(None,))
        keep("cvsm_exact", exact)
        keep("cvsm_pairs", pair_scores(systems, store, device="cpu"))
        mapped = [s for s in systems if s.name in ("CVSM-A", "CVSM-AH", "COLA", "MSCOL", "COLA-ART", "CVSM-ART")]
        clusters = []
        for label in ("gender", "artist"):
            points = project_clips(mapped, store, label, device="cpu")
            keep(f"cvsm_map_{label}", points)
            clusters.append(cluster_scores(mapped, store, label, points, device="cpu"))
        clusters = pd.concat(clusters, ignore_index=True)
        keep("cvsm_clusters", clusters)
        overlap = overlap_scores(systems, store, device="cpu")
        keep("cvsm_overlap", overlap)
        everything = pd.concat([scores, few]).dropna(subset="value")
        keep("cvsm_claims", test_claims(everything, CLAIMS, overlap=overlap, clusters=clusters[clusters.space == "plane"]))
        keep("cvsm_published_claims", published_claims())
        results = summarise(scores[scores["mode"] == "mixture"], "table2", "smoke")
        keep("cvsm_summary", results)
        keep("cvsm_beside", beside_published(results, "table2"))
        wanted = [s for s in systems if s.name in ("CVSM-AH", "COLA", "mean MFCC", "GE2E")]
        keep("cvsm_sensitivity", factor_distances({s.name: (s.make("cpu"), s.scaling) for s in wanted}, songs=2))


def singers():
    from vocalrep.evaluation import find_systems
    from vocalrep.singer_figures import beside_floors, beside_published_singers, judge_singers, measure_treble
    from vocalrep.singers import dry_and_mixed_scores, find_singer_systems, find_voices, on_fragments, score_singers, summarise_singers
    from vocalrep.store import open_store
    store = open_store("studio", "", "smoke", paper="singer_identity", progress=False)
    for protocol in ("released", "paper"):
        systems = find_singer_systems(store, "smoke", 0, 1, protocol=protocol, device="cpu", progress=False)
        voices = find_voices(store, "", "smoke")
        similarity = score_singers(systems, voices, "similarity", device="cpu", progress=False, rule=protocol, trials=2000)
        keep(f"singers_similarity_{protocol}", similarity)
        if protocol == "paper":
            continue
        identification = score_singers(systems, voices[1:], "identification", device="cpu", progress=False, folds=5)
        keep("singers_identification", identification)
        table3, table4 = summarise_singers(similarity, "table3", "smoke"), summarise_singers(identification, "table4", "smoke")
        keep("singers_table3", table3), keep("singers_table4", table4)
        keep("singers_beside3", beside_published_singers(table3, "table3")), keep("singers_beside4", beside_published_singers(table4, "table4"))
        keep("singers_judged3", judge_singers(table3)), keep("singers_judged4", judge_singers(table4))
        keep("singers_floors", beside_floors(table3))
        keep("singers_treble", pd.DataFrame([measure_treble(v) for v in voices]))
        mixed = open_store("studio", "", "smoke", progress=False)
        both = find_systems(mixed, "smoke", 0, names=["CVSM-AH", "GE2E", "mean MFCC"], device="cpu", progress=False)
        full = open_store("studio", "", "smoke", progress=False)
        heard = [on_fragments(s, 16000) for s in [*both, *(s for s in systems if s.name in ("CONT", "untrained"))]]
        keep("singers_dry_and_mixed", dry_and_mixed_scores(heard, full, "test", None, "cpu"))


if __name__ == "__main__":
    for part in sys.argv[2:] or ("studio", "samplers", "runs", "cvsm", "singers"):
        globals()[part]()
