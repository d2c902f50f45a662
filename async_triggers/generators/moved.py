"""Where classes are today that published YAML names by an earlier path.

https://airflow.apache.org/docs/apache-airflow/stable/installation/upgrading_to_airflow3.html
and the change logs of the providers. Paths that Airflow itself still follows work as they
are, and need no entry.
"""

from __future__ import annotations

from importlib.util import find_spec

_STANDARD = "airflow.providers.standard"
_SQL = "airflow.providers.common.sql"
_PRESENT = {
    **dict.fromkeys(("DummyOperator", "EmptyOperator"), f"{_STANDARD}.operators.empty"),
    "BaseBranchOperator": f"{_STANDARD}.operators.branch",
    "BashOperator": f"{_STANDARD}.operators.bash",
    "BashSensor": f"{_STANDARD}.sensors.bash",
    "BranchDateTimeOperator": f"{_STANDARD}.operators.datetime",
    "BranchDayOfWeekOperator": f"{_STANDARD}.operators.weekday",
    **dict.fromkeys(
        (
            "BranchPythonOperator",
            "ExternalPythonOperator",
            "PythonOperator",
            "PythonVirtualenvOperator",
            "ShortCircuitOperator",
        ),
        f"{_STANDARD}.operators.python",
    ),
    **dict.fromkeys(
        ("DateTimeSensor", "DateTimeSensorAsync"), f"{_STANDARD}.sensors.date_time"
    ),
    "DayOfWeekSensor": f"{_STANDARD}.sensors.weekday",
    **dict.fromkeys(
        ("ExternalTaskMarker", "ExternalTaskSensor"),
        f"{_STANDARD}.sensors.external_task",
    ),
    "FileSensor": f"{_STANDARD}.sensors.filesystem",
    "LatestOnlyOperator": f"{_STANDARD}.operators.latest_only",
    "PythonSensor": f"{_STANDARD}.sensors.python",
    "TimeDeltaSensor": f"{_STANDARD}.sensors.time_delta",
    "TimeSensor": f"{_STANDARD}.sensors.time",
    "TriggerDagRunOperator": f"{_STANDARD}.operators.trigger_dagrun",
    "EmailOperator": "airflow.providers.smtp.operators.smtp",
    **dict.fromkeys(
        (
            "BranchSQLOperator",
            "CheckOperator",
            "IntervalCheckOperator",
            "JdbcOperator",
            "MsSqlOperator",
            "MySqlOperator",
            "OracleOperator",
            "PostgresOperator",
            "SQLCheckOperator",
            "SQLIntervalCheckOperator",
            "SQLThresholdCheckOperator",
            "SQLValueCheckOperator",
            "SnowflakeOperator",
            "SqliteOperator",
            "ThresholdCheckOperator",
            "ValueCheckOperator",
        ),
        f"{_SQL}.operators.sql",
    ),
    "GenericTransfer": f"{_SQL}.operators.generic_transfer",
    "SqlSensor": f"{_SQL}.sensors.sql",
    **dict.fromkeys(
        ("HttpOperator", "SimpleHttpOperator"), "airflow.providers.http.operators.http"
    ),
    "HttpSensor": "airflow.providers.http.sensors.http",
    "SSHOperator": "airflow.providers.ssh.operators.ssh",
    "SFTPOperator": "airflow.providers.sftp.operators.sftp",
    "SFTPSensor": "airflow.providers.sftp.sensors.sftp",
    "DockerOperator": "airflow.providers.docker.operators.docker",
    "SlackAPIPostOperator": "airflow.providers.slack.operators.slack",
    "KubernetesPodOperator": "airflow.providers.cncf.kubernetes.operators.pod",
    "SparkSubmitOperator": "airflow.providers.apache.spark.operators.spark_submit",
    "HiveOperator": "airflow.providers.apache.hive.operators.hive",
    **dict.fromkeys(
        ("DatabricksRunNowOperator", "DatabricksSubmitRunOperator"),
        "airflow.providers.databricks.operators.databricks",
    ),
    "S3KeySensor": "airflow.providers.amazon.aws.sensors.s3",
    **dict.fromkeys(
        (
            "BigQueryCheckOperator",
            "BigQueryExecuteQueryOperator",
            "BigQueryInsertJobOperator",
            "BigQueryOperator",
        ),
        "airflow.providers.google.cloud.operators.bigquery",
    ),
}
# Classes of the other providers, which are here as well.
_OURS = {
    "AirbyteTriggerSyncOperator": "async_triggers.airbyte.operators",
    "AirbyteJobSensor": "async_triggers.airbyte.sensors",
    **dict.fromkeys(
        ("FivetranOperator", "FivetranResyncOperator"),
        "async_triggers.fivetran.operators",
    ),
    "FivetranSensor": "async_triggers.fivetran.sensors",
    **dict.fromkeys(
        (
            "DbtCloudGetJobRunArtifactOperator",
            "DbtCloudListJobRunsOperator",
            "DbtCloudListJobsOperator",
            "DbtCloudRunJobOperator",
        ),
        "async_triggers.dbt_cloud.operators",
    ),
    "DbtCloudJobRunSensor": "async_triggers.dbt_cloud.sensors",
}
_RENAMED = {
    "DummyOperator": "EmptyOperator",
    **dict.fromkeys(
        ("BigQueryExecuteQueryOperator", "BigQueryOperator"),
        "BigQueryInsertJobOperator",
    ),
    "CheckOperator": "SQLCheckOperator",
    "IntervalCheckOperator": "SQLIntervalCheckOperator",
    "ThresholdCheckOperator": "SQLThresholdCheckOperator",
    "ValueCheckOperator": "SQLValueCheckOperator",
    "SimpleHttpOperator": "HttpOperator",
    **dict.fromkeys(
        (
            "JdbcOperator",
            "MsSqlOperator",
            "MySqlOperator",
            "OracleOperator",
            "PostgresOperator",
            "SnowflakeOperator",
            "SqliteOperator",
        ),
        "SQLExecuteQueryOperator",
    ),
}
# Where the second part of a provider's path is not a part of its distribution's name.
_ONE_PART = frozenset({"amazon", "google"})
_PACKAGES = frozenset({"airflow", "fivetran_provider", "fivetran_provider_async"})
# Where Airflow 1 and 2 had operators, which are in the providers' packages by now.
_EMPTIED = frozenset({"contrib", "operators", "sensors"})
_EVERY_CLASS = (
    "https://airflow.apache.org/docs/apache-airflow-providers/operators-and-hooks-ref/"
)


def advice(path: str) -> str:
    """Say where a class that cannot be imported is today; empty for what is not known."""
    package, _, name = path.rpartition(".")
    top, _, below = package.partition(".")
    if name in _OURS and top in _PACKAGES:
        return f"Here it is {_OURS[name]}.{name}"

    if top != "airflow":
        return ""

    if name == "SubDagOperator":
        return "Airflow has no sub-DAGs any more: write task_groups"

    module = _PRESENT.get(name)
    if module is None:
        said = f"Airflow's operators are in its providers today, see {_EVERY_CLASS}"
        return said if below.partition(".")[0] in _EMPTIED else ""

    present = f"{module}.{_RENAMED.get(name, name)}"
    missing = _missing_distribution(module)
    install = f"install {missing}" if missing else ""
    if present == path:
        return install.capitalize()

    return f"Today it is {present}" + (f"; {install} for it" if install else "")


def advice_on_name(name: str) -> str:
    """Say by which path a class is meant that is named without one; empty if unknown.

    Capitals and the last word, Operator or Sensor, may be missing: ``bash``.
    """
    wanted = name.strip().lower().replace("_", "")
    kinds = ("", "operator", "sensor")
    for known, module in (_PRESENT | _OURS).items():
        if known.lower() in {f"{wanted}{kind}" for kind in kinds}:
            return f"such as {module}.{_RENAMED.get(known, known)}"

    return ""


def _missing_distribution(module: str) -> str:
    """Return the name of the provider that a module is of, where it is not installed."""
    parts = module.split(".")[2:]
    kinds = ("operators", "sensors")
    names = parts[: next(at for at, part in enumerate(parts) if part in kinds)]
    try:
        if find_spec(".".join(["airflow", "providers", *names])) is not None:
            return ""
    except ModuleNotFoundError:
        pass

    shown = names[:1] if names[0] in _ONE_PART else names
    return "-".join(["apache-airflow-providers", *shown])
