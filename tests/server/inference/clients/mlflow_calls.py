"""What a user of MLflow's scoring clients does: ``PYTHON mlflow_calls.py PORT``; prints one JSON object."""

import json
import sys

import numpy as np
import pandas as pd
from mlflow.deployments import get_deploy_client
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from requests import HTTPError

port = sys.argv[1]
FRAME = pd.DataFrame({"customer_id": [1, 2], "income": [1000.0, 2000.0], "term": [12, 24]})

scoring = ScoringServerClient("127.0.0.1", int(port))
scoring.ping()
found = {
    "version": scoring.get_version(),
    "frame": scoring.invoke(FRAME).get_predictions().values.ravel().tolist(),
    "array": scoring.invoke(FRAME.to_numpy()).get_predictions().values.ravel().tolist(),
    "times": scoring.invoke(FRAME.assign(applied_at=["2026-03-01T00:00:00Z", np.nan])).get_predictions().size,
}
client = get_deploy_client(f"http://127.0.0.1:{port}")
found["deployments"] = client.predict(endpoint="credit", inputs={"dataframe_split": FRAME.to_dict(orient="split")})
found["endpoints"] = [endpoint.name for endpoint in client.list_endpoints()]
found["endpoint"] = client.get_endpoint("credit").endpoint_url
try:
    client.predict(endpoint="unknown", inputs={"dataframe_split": FRAME.to_dict(orient="split")})
except HTTPError as error:
    found["error"] = str(error)
print(json.dumps(found))
