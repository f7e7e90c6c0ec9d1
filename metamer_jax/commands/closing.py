"""What a finished run says in the terminal: a table, and what one may do next."""

from metamer_jax import runs, storage


def table(run: runs.Run) -> str:
    """Returns what became of a run, a line per network and stage.

    Args:
        run: A run that was verified.

    Returns:
        Lines of a table: the network and its accuracy, the stage and how many of its metamers
        passed, their median relative error at it, and how often the run's other networks
        recognise those that passed, in per cent ("-" where there is none, or nothing passed).
    """
    yields = storage.read_csv(run.path("verification", "yields.csv"))
    recognition = run.path("verification", "recognition.csv")  # Not of a run of an older version.
    heard = storage.read_csv(recognition) if recognition.exists() else None
    rows = [("network", "accuracy", "stage", "verified", "median error", "others recognise")]
    for found in yields[yields["word"] == "all"].to_dict("records"):
        network, stage = found["network"], found["stage"]
        result = storage.read_json(run.path("networks", network, "result.json"))
        accuracy = result.get("test_accuracy")
        others = ()
        if heard is not None:
            of_others = (heard["layer"] == stage) & (heard["listener"] != network)
            others = heard.loc[(heard["model"] == network) & of_others, "proportion"]
        rows.append(
            (
                network,
                "-" if accuracy is None else f"{accuracy:.0%}",
                stage,
                f"{found['passed']}/{found['metamers']}",
                f"{found['median_relative_error']:.1e}",
                f"{sum(others) / len(others):.0%}" if len(others) else "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
