"""The client's part of `benchmarks.tracking_pairs`: ``tracking_pairs.py NAME=URL…`` asks the servers in turn."""

import contextlib
import json
import statistics
import sys
import time

import tracking_client  # sets the client's environment first
from mlflow import MlflowClient


class Asked:
    """One server, and what is asked of it."""

    def __init__(self, url: str) -> None:
        import mlflow
        from sklearn.linear_model import LogisticRegression

        self.url = url
        self.client = MlflowClient(url)
        place = tracking_client.experiment(self.client, "pairs")
        self.run = self.client.create_run(place).info.run_id
        self.runs = iter([self.client.create_run(place).info.run_id for _ in range(ROUNDS["log_batch"])])
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("pairs")
        self.name = f"m{time.time_ns()}"
        model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        logged = mlflow.sklearn.log_model(model, name="model", registered_model_name=self.name, pip_requirements=[])
        mlflow.end_run()
        self.model_uri = logged.model_uri
        self.client.set_registered_model_alias(self.name, "champion", 1)

    def log_metric(self, number: int) -> None:
        self.client.log_metric(self.run, "loss", 1 / (number + 1), step=number)

    def log_batch(self, number: int) -> None:
        self.client.log_batch(next(self.runs), **tracking_client.items(number))

    def search(self, _number: int) -> None:
        self.client.search_model_versions(f"name = '{self.name}'")

    def load_by_alias(self, _number: int) -> None:
        import mlflow

        mlflow.pyfunc.load_model(f"models:/{self.name}@champion")

    def register(self, _number: int) -> None:
        import mlflow

        mlflow.register_model(self.model_uri, self.name)


# As many versions as the answers of the empty server have, before they are searched.
ROUNDS = {"log_metric": 150, "log_batch": 40, "register": 8, "load_by_alias": 12, "search": 40}


def main(addresses: dict[str, str]) -> dict:
    import mlflow

    servers = {name: Asked(url) for name, url in addresses.items()}
    found = {}
    for case, rounds in ROUNDS.items():
        times = {name: [] for name in servers}
        for number in range(rounds):
            for name, server in servers.items():
                mlflow.set_tracking_uri(server.url)
                started = time.perf_counter()
                getattr(server, case)(number)
                times[name].append((time.perf_counter() - started) * 1000)
        found[case] = {name: round(statistics.median(taken), 2) for name, taken in times.items()}
    return found


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        answer = main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
    print(json.dumps(answer))
