"""A dbt project with one of everything that a selection may name, and odd names."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0"
profile: shop
model-paths: [models]
seed-paths: [seeds]
snapshot-paths: [snapshots]
test-paths: [tests]
analysis-paths: [analyses]
macro-paths: [macros]
on-run-end: ["select 1"]
models:
  shop:
    marts:
      +materialized: table
      +tags: [nightly]
      +meta: {owner: finance, tier: 1, shared: true, from: 2024-02-02}
    staging:
      +materialized: view
      web:
        +meta: {owner: growth, labels: [a, b], nested: {deep: [true, x]}}
""",
    "packages.yml": "packages: [{local: dbt_packages/partner}]",
    "profiles.yml": """
shop:
  target: dev
  outputs:
    dev: {type: duckdb, path: ":memory:", database: memory, schema: main}
""",
    "models/sources.yml": """
version: 2
sources:
  - name: crm
    database: raw
    schema: crm
    tags: [crm_wide]
    config: {meta: {owner: sales}, tags: [configured]}
    tables:
      - {name: people, tags: [daily], config: {meta: {owner: finance, pii: true}}}
      - {name: deals, tags: [hourly, "team:core"], identifier: DEALS_V2}
      - {name: "order items", tags: ["two words"]}
      - {name: gone, config: {enabled: false}}
  - name: web.site
    database: raw
    schema: web
    tables:
      - {name: hits, tags: [daily], columns: [{name: id, data_tests: [not_null]}]}
      - {name: clicks, config: {tags: [hourly], event_time: at}}
      - {name: unused, tags: [daily]}
  - name: erp
    tables:
      - {name: ledger}
      - {name: fx, config: {meta: {since: 2024-01-01, ratio: 1.5, off_: false, nil: null}}}
""",
    "models/staging/crm/stg_people.sql": "select * from {{ source('crm', 'people') }}",
    "models/staging/crm/stg_deals.sql": (
        "{{ config(tags='mart', meta={'since': modules.datetime.date(2024, 3, 3)},"
        " begin='2024-04-04') }} select * from {{ source('crm', 'deals') }}"
    ),
    "models/staging/web/clicks.sql": "select * from {{ source('web.site', 'clicks') }}",
    "models/staging/web/hits.sql": (
        "select id from {{ source('web.site', 'hits') }}"
        " where day > (select max(day) from {{ ref('calendar') }})"
    ),
    "models/staging/web/_web.yml": """
version: 2
models:
  - name: hits
    config: {group: growth, access: protected}
    columns: [{name: id, data_tests: [unique, {not_null: {config: {severity: warn}}}]}]
  - name: clicks
    config: {materialized: ephemeral, tags: [daily], group: growth, access: private}
""",
    "models/marts/revenue.sql": (
        "select * from {{ ref('stg_deals') }}, {{ ref('dim', v=2) }},"
        " {{ source('erp', 'fx') }}"
    ),
    "models/marts/funnel.sql": (
        "select * from {{ ref('clicks') }}, {{ ref('hits') }}, {{ ref('partner_orders') }}"
    ),
    "models/marts/core/dim_v1.sql": "select * from {{ ref('stg_people') }}",
    "models/marts/core/dim_two.sql": (
        "select * from {{ ref('stg_people') }}, {{ source('erp', 'ledger') }}"
    ),
    "models/marts/core/dim_v10.sql": "select * from {{ source('crm', 'order items') }}",
    "models/marts/core/off.sql": (
        "{{ config(enabled=false) }} select * from {{ source('web.site', 'unused') }}"
    ),
    "models/marts/core/a.b.sql": "select * from {{ source('crm', 'deals') }}",
    "models/marts/core/incremental_py.py": """
def model(dbt, session):
    dbt.config(materialized="table", tags=["python"], group="growth")
    return dbt.ref("hits")
""",
    "models/marts/_marts.yml": """
version: 2
groups:
  - {name: growth, owner: {name: Growth}}
  - {name: money, owner: {name: Money}}
models:
  - name: revenue
    access: public
    config: {group: money, contract: {enforced: false}}
    data_tests: [{unique: {name: odd-test.name, column_name: id}}]
  - name: funnel
    config: {group: growth, access: protected, meta: {since: 2024-01-01, n: 7}}
  - name: dim
    latest_version: 2
    versions: [{v: 1}, {v: 2, defined_in: dim_two}, {v: 10}]
  - name: incremental_py
unit_tests:
  - name: funnel_adds_up
    model: funnel
    config: {tags: [ut]}
    given:
      - {input: ref('clicks'), rows: [{id: 1}]}
      - {input: ref('hits'), rows: [{id: 1}]}
      - {input: ref('partner_orders'), rows: [{id: 1}]}
    expect: {rows: [{id: 1}]}
exposures:
  - name: board
    type: dashboard
    owner: {name: Me, email: me@example.com}
    depends_on: ["ref('revenue')", "source('web.site', 'unused')"]
    config: {tags: [shown], meta: {owner: finance}}
  - name: app
    type: application
    owner: {name: Me}
    depends_on: ["ref('funnel')"]
""",
    "models/metrics.yml": """
version: 2
semantic_models:
  - name: deals
    model: ref('stg_deals')
    defaults: {agg_time_dimension: at}
    entities: [{name: id, type: primary}]
    dimensions: [{name: at, type: time, type_params: {time_granularity: day}}]
    measures: [{name: total, agg: sum, expr: amount}]
metrics:
  - name: deal_total
    label: Deals
    type: simple
    type_params: {measure: total}
    config: {group: money, tags: [measured]}
saved_queries:
  - name: weekly
    label: Weekly
    query_params: {metrics: [deal_total]}
    config: {tags: [saved]}
""",
    "models/time.sql": (
        "{{ config(materialized='table') }} select cast('2024-01-01' as date) as day"
    ),
    "models/time.yml": """
version: 2
models:
  - name: time
    time_spine: {standard_granularity_column: day}
    columns: [{name: day, granularity: day}]
""",
    "seeds/calendar.csv": "day\n2024-01-01\n",
    "snapshots/people_history.sql": (
        "{% snapshot people_history %}{{ config(unique_key='id', strategy='check',"
        " check_cols='all', target_schema='h', tags=['kept']) }}"
        " select * from {{ source('crm', 'people') }}{% endsnapshot %}"
    ),
    "tests/no_orphans.sql": (
        "select * from {{ ref('hits') }} where id not in"
        " (select id from {{ source('crm', 'people') }})"
    ),
    "analyses/ad_hoc.sql": "select * from {{ source('erp', 'ledger') }}",
    "dbt_packages/partner/dbt_project.yml": """
name: partner
version: "1.0"
models: {partner: {+tags: [foreign]}}
""",
    "dbt_packages/partner/models/partner_orders.sql": (
        "select * from {{ source('partner_erp', 'orders') }}"
    ),
    "dbt_packages/partner/models/only_here/time_off.sql": (
        "select * from {{ source('partner_erp', 'leave') }}"
    ),
    "dbt_packages/partner/models/sources.yml": """
version: 2
sources:
  - name: partner_erp
    database: lake
    schema: erp
    tables: [{name: orders, tags: [daily]}, {name: leave}, {name: stock}]
  - name: crm
    database: lake
    schema: crm
    tables: [{name: people}]
""",
}


def write_shop(folder: Path) -> Path:
    """Write the project into a folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))
    return folder
