"""What dbt Cloud's Admin API says, without I/O.

The API is described at https://docs.getdbt.com/dbt-cloud/api-v2 (runs and jobs) and
https://docs.getdbt.com/dbt-cloud/api-v3 (projects and environments), and in the OpenAPI
file of https://github.com/dbt-labs/dbt-cloud-openapi-spec.
"""
