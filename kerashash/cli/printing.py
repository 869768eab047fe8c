"""What several commands print."""


def print_metrics(metrics):
    from kerashash.zoo import cards

    for row in cards.rows({"name": "", "metrics": metrics}):
        definition = row["definition"] and f"  ({row['definition']})"
        print(f"  {row['metric']:10} {row['value']}{definition}")
