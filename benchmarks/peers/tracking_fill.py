"""Fills a store with runs of 20 metrics, 10 params and 5 tags: ``tracking_fill.py KIND FOLDER DATABASE RUNS``."""

import sys
import time
from pathlib import Path


def rows(count: int):
    """Yield each run's number with its metrics, params and tags."""
    for number in range(count):
        yield (
            number,
            [(f"m{i}", (number * 7919 + i * 31) % 1000 + i / 7) for i in range(20)],
            [(f"p{i}", str(number * i % 97)) for i in range(10)],
            [(f"t{i}", f"v{number % 50}") for i in range(5)],
        )


def fill_mlflow(folder: Path, database: str, count: int) -> None:
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(database or f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))
    place = store.create_experiment("filled")
    now = int(time.time() * 1000) - count
    runs, metrics, latest, params, tags = [], [], [], [], []
    for number, some_metrics, some_params, some_tags in rows(count):
        run = f"{number:032x}"
        runs.append(
            {
                "run_uuid": run,
                "name": f"run {number}",
                "source_type": "LOCAL",
                "source_name": "",
                "entry_point_name": "",
                "user_id": "bench",
                "status": "FINISHED",
                "start_time": now + number,
                "end_time": now + number + 5,
                "source_version": "",
                "lifecycle_stage": "active",
                "artifact_uri": f"mlflow-artifacts:/{place}/{run}/artifacts",
                "experiment_id": int(place),
            }
        )
        for key, value in some_metrics:
            point = {"run_uuid": run, "key": key, "value": value, "timestamp": now, "step": 0, "is_nan": False}
            metrics.append(point)
            latest.append(point)
        params += [{"run_uuid": run, "key": key, "value": value} for key, value in some_params]
        tags += [{"run_uuid": run, "key": key, "value": value} for key, value in some_tags]
    with store.engine.begin() as connection:
        for model, content in (
            (SqlRun, runs),
            (SqlMetric, metrics),
            (SqlLatestMetric, latest),
            (SqlParam, params),
            (SqlTag, tags),
        ):
            connection.execute(model.__table__.insert(), content)


def fill_flyball(folder: Path, count: int) -> None:
    from flyball.domain.tracking.points import Point
    from flyball.workspace.home import Home

    home = Home(folder, folder / ".flyball", is_durable=False)
    now = int(time.time() * 1000) - count
    with home.db.begin() as tx:
        place = home.experiments.create(tx, "filled")
        for number, some_metrics, some_params, some_tags in rows(count):
            run = home.client_runs.create(tx, place, name=f"run {number}", started_at_us=(now + number) * 1000).run
            home.client_runs.log(
                tx,
                run.id,
                points=[Point(key, value, now * 1000) for key, value in some_metrics],
                params=dict(some_params),
                tags=dict(some_tags),
            )


if __name__ == "__main__":
    kind, folder, database, count = sys.argv[1:5]
    if kind == "flyball":
        fill_flyball(Path(folder), int(count))
    else:
        fill_mlflow(Path(folder), database, int(count))
