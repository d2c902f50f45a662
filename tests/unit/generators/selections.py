"""Selections of the project in :mod:`shop`, one of each kind and odd ones."""

from __future__ import annotations

_WORDS = """
fqn:* source:* exposure:* metric:* semantic_model:* saved_query:* unit_test:* tag:daily
tag:d* tag:[dh]* tag:?aily tag:nothing +tag:nightly tag:team:core tag:crm_wide
tag:configured +tag:python +tag:ut +tag:shown +tag:measured +tag:saved +tag:foreign
+tag:on-run-end tag:Daily +tag:mart tag:kept+ +tag:kept tag:* tag.any:daily source:crm
source:crm.people source:shop.crm.people source:*.crm.* source:partner.*.*
source:web.site source:web.site.hits source:shop.web.site.hits source:we* source:c?m
source:partner_erp+ +source:crm source: source:a.b.c.d source:nowhere source:CRM
+stg_people stg_people 1+revenue 2+revenue 3+revenue 0+revenue 99+revenue +revenue+1
+marts +shop.marts +shop.marts.* +shop +marts.core +core +shop.*.core +shop.marts.*e*
+sho* +partner +partner.* +partner.only_here +only_here +time_off +partner_orders
+partner* +dim +dim.v1 +dim.v2 +dim_v1 +dim_v2 +dim.v10 +dim.v* +dim* +dim_two +v1
+shop.marts.core.dim.v2 +marts.core.dim +core.dim.v1 +v1* +di? +*.v1 +a.b +a +core.a
+core.a.b +a* +*b +a.? +odd-test.name +odd* +unique_hits_id +no_orphans +not_null*
+calendar +people_history +people_history.people_history +snapshot.people_history
+ad_hoc +analysis.ad_hoc +shop-on-run-end-0 +hooks +board +app +marts.board +deal_total
+deals +weekly +funnel_adds_up +funnel.funnel_adds_up +hits hits+ hits+1 +hits+ +clicks
+web +staging.web +web.* +staging +sta* +Marts +MARTS +incremental_py +off +unused
@stg_people @source:crm @source:crm.deals @tag:hourly @calendar @dim.v1
@seeds/calendar.csv @+hits 1+@hits @hits+ @2+hits path:models path:models/ models
models/ models/* models/** models/marts +models/marts models/staging/web
+models/staging/web models/sources.yml models/marts/_marts.yml +models/marts/_marts.yml
path:models/sources.yml +path:models/marts/core +models/*/core +models/**/dim*.sql
models/**/*.yml ./models/sources.yml +./models/marts models//sources.yml
+models/marts/../marts path:../shop path:. path: path:/tmp +seeds/calendar.csv
+snapshots +snapshots/people_history.sql +tests/no_orphans.sql +tests
+analyses/ad_hoc.sql dbt_packages/partner models/partner_orders.sql +models/only_here
+models/metrics.yml models/[s]* models/nothing path:models/sources.yml/ path:mod*
path:models/s* dbt_project.yml path:dbt_project.yml models/**.sql +clicks.sql
+revenue.sql clicks.sql file:sources.yml file:sources +file:_marts.yml +file:dim*
file:*.yml +file:funnel +a.b.sql +file:a.b +incremental_py.py calendar.csv+
+calendar.csv +CLICKS.SQL +file:partner_orders file:* +people_history.sql +time.sql
+file:_web package:this package:shop package:partner package:* package:par* package:none
+package:partner +package:this config.meta.owner:finance config.meta.owner:sales
+config.meta.owner:finance +config.meta.owner:growth config.meta.pii:true
config.meta.pii:True config.meta.pii:false config.meta.off_:false config.meta.off_:FALSE
config.meta.nil:null config.meta.ratio:1.5 +config.meta.tier:1 +config.meta.shared:true
+config.meta.labels:a +config.meta.labels:c +config.meta.nested.deep:x
+config.meta.nested.deep:true +config.meta.nested:x config.tags:hourly
config.tags:configured config.tags:daily +config.tags:nightly config.tags:h*
config.enabled:true config.enabled:false config.enabled:TRUE
+config.meta.from:2024-02-02 +config.meta.since:2024-03-03 +config.begin:2024-04-04
+config.materialized:table +config.materialized:view +config.materialized:ephemeral
+config.materialized:seed +config.materialized:snapshot +config.materialized:test
+config.severity:warn +config.severity:WARN +config.severity:error +config.group:money
+config.access:private +config.contract.enforced:false +config.unique_key:id
+config.check_cols:all +config.strategy:check +config.docs.show:true +config.packages:x
config.event_time:at config.freshness.warn_after:x config.nothing:x config:x config.:x
config.meta:x config.meta.since:2024-01-01 +config.meta.since:2024-01-01
+config.meta.n:7 config.meta.items:x config.meta.get:x config.get:x config.to_dict:x
config._extra:x config.tags.count:x config.pre-hook:x config.static_analysis:null
config.schema:h +config.target_schema:h +config.on_schema_change:ignore
+config.lookback:1 resource_type:source +resource_type:model +resource_type:test
+resource_type:unit_test +resource_type:exposure +resource_type:snapshot
+resource_type:seed +resource_type:metric +resource_type:saved_query
+resource_type:semantic_model +resource_type:analysis +resource_type:operation
resource_type:bogus resource_type:Model resource_type:macro resource_type:function
resource_type:sql_operation resource_type:source+ resource_type: group:growth
+group:growth +group:money +group:* group:m* +group:none access:public +access:public
+access:private +access:protected +access:pub* access:x +exposure:board +exposure:*
+exposure:shop.board +exposure:shop.* exposure:a.b.c exposure:none +metric:deal_total
+metric:shop.deal_total metric:a.b.c +semantic_model:deals +semantic_model:shop.deals
semantic_model:a.b.c +saved_query:weekly saved_query:a.b.c +unit_test:funnel_adds_up
+unit_test:shop.* +unit_test:f* unit_test:a.b.c +test_name:unique +test_name:not_null
+test_name:n* +test_name:funnel_adds_up test_name:none +test_type:generic
+test_type:schema +test_type:singular +test_type:unit +test_type:data +test_type:da
+test_type:gular +test_type:bogus +test_type:u +test_type:a +version:latest +version:old
+version:prerelease +version:none version:bogus version:1 state:new state:modified+
result:error source_status:fresher+ selector:x bogus:x tags:daily TAG:daily :x x: tag:
1+ + @ ++hits +hits++ 1+hits+2 1+1+hits *+ +* ?hits +h[a-z]ts +h[!a]ts +[h]its +hits] *
** +*.* +shop.marts.rev* +shop.ma?ts.* shop.*.* tag:daily,source:crm +marts,tag:daily
+marts,+staging tag:daily,tag:hourly ,tag:daily tag:daily, +funnel,package:partner
source:crm,config.tags:daily +board,source:web.site @hits,source:crm
"""

SELECTIONS: list[list[str]] = [
    [],
    *(["--select", word] for word in _WORDS.split()),
    *(["--exclude", word] for word in _WORDS.split()[::3]),
    ["--select", "+hits\n"],
    ["--select", "tag:daily\ttag:hourly"],
    *(
        line.split("|")
        for line in """
--select|
--select| |
--exclude|
--exclude|
--select|tag:daily  tag:hourly
--select|tag:daily|tag:hourly
--select|tag:daily|--select|tag:hourly
--select=tag:daily
--select=tag:daily|tag:hourly
--select=
-s|tag:daily
-stag:daily
-s=tag:daily
--select|tag:daily|--exclude|source:crm
--exclude|source:crm|--select|tag:daily
--exclude|tag:daily tag:hourly
--exclude|source:crm|--exclude|source:erp
--exclude|package:this
--exclude|config.tags:hourly
--exclude|+marts
--select|+marts|--exclude|+marts
--select|+marts|--exclude|+dim.v2
--select|source:web.site source:erp|--exclude|tag:daily,source:web*
--select|tag:two words
--select|source:crm.order items
--select|source:crm.order*
--select|tag:daily|--resource-type|model
--resource-type|source|--select|tag:daily
--resource-type|SOURCE|--select|tag:daily
--resource-type|bogus|--select|tag:daily
--resource-types|model seed|-s|tag:daily
--select|tag:daily|--indirect-selection|cautious
--select|tag:daily|--select
--select
--exclude
tag:daily
--select|+board|@calendar
--select|+exposure:*|--exclude|package:partner|source:erp.*
--selector|x
--selects|tag:daily
--select|--exclude|x
--|x
--select|tag:daily|--
--select|@tag:daily,@tag:hourly|--exclude|1+hits
--select|path:**
--select|+**/**
--select|+hits|--exclude|path:./**
""".splitlines()
        if line
    ),
]

# What no manifest shows, or what is written as nobody means it: dbt has an answer.
REFUSED: list[list[str]] = [
    line.split("|")
    for line in """
--select|models/*
--select|+models/marts/../marts
--select|path:../shop
--select|models/partner_orders.sql
--select|+models/only_here
--select|path:models/sources.yml/
--select|+config.meta.from:2024-02-02
--select|+config.meta.since:2024-03-03
--select|+config.begin:2024-04-04
--select|config.meta.since:2024-01-01
--select|+config.meta.since:2024-01-01
--select|config.meta.items:x
--select|config.meta.get:x
--select|config.get:x
--select|config.to_dict:x
--select|config._extra:x
--exclude|path:models/sources.yml/
--exclude|+config.meta.from:2024-02-02
--exclude|+config.meta.since:2024-01-01
--exclude|config.meta.get:x
--exclude|config._extra:x
-s=tag:daily
--select|tag:daily|--indirect-selection|cautious
--select|tag:daily|--select
--select
--exclude
--select|--exclude|x
""".splitlines()
    if line
]
