"""`curate fit`: laws of mixtures from a file of runs."""

import json

import pytest


def test_fit_mix_says_the_largest_share_and_the_bad_line(tmp_path, curate):
    file = tmp_path / "runs.jsonl"
    runs = [
        {
            "params": 4.6e8, "tokens": tokens, "domain_share": share, "domain_loss": 2 - tokens / 1e10,
            "general_loss": 2.0 if tokens == 2e8 or share <= 0.2 + tokens / 4e9 else 2.2,
        }
        for share in (0.1, 0.3, 0.5, 0.9) for tokens in (2e8, 5e8, 1e9, 2e9)
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, runs)))
    done = curate("fit", "mix", file, "--law", "cmr", "--json")
    assert json.loads(done.stdout)["domain_share"] == pytest.approx(0.5, abs=0.1)
    assert "largest domain share" in curate("fit", "mix", file, "--law", "cmr").stdout
    file.write_text('{"params": 1, "tokens": 1, "share": 0.5}')
    done = curate("fit", "mix", file)
    assert done.returncode == 2
    assert "runs.jsonl:1" in done.stderr
    assert "share" in done.stderr


def test_fit_mix_refuses_a_law_it_does_not_know(tmp_path, curate):
    done = curate("fit", "mix", tmp_path / "runs.jsonl", "--law", "chinchilla")
    assert done.returncode == 2
    assert "d-cpt or cmr" in done.stderr
