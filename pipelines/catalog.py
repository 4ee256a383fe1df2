"""Spark's properties for the shared catalogue: a Hive metastore, by the client inside PySpark."""

from __future__ import annotations

from pipelines.config import Catalog, Config

_DRIVERS = {
    "jdbc:postgresql:": "org.postgresql.Driver",
    "jdbc:derby:": "org.apache.derby.iapi.jdbc.AutoloadedDriver",
}
_MODEL = "org.apache.hadoop.hive.metastore.model"
# What Hive 2.3 keeps in tables of its own, as its package.jdo says.
_METASTORE_CLASSES = (
    *("MDatabase", "MType", "MTable", "MConstraint", "MSerDeInfo", "MColumnDescriptor", "MStringList"),
    *("MStorageDescriptor", "MPartition", "MIndex", "MRole", "MRoleMap", "MGlobalPrivilege", "MDBPrivilege"),
    *("MTablePrivilege", "MPartitionPrivilege", "MTableColumnPrivilege", "MPartitionColumnPrivilege"),
    *("MPartitionEvent", "MMasterKey", "MDelegationToken", "MTableColumnStatistics", "MFunction"),
    *("MPartitionColumnStatistics", "MVersionTable", "MNotificationLog", "MNotificationNextId"),
)


def metastore_settings(config: Config) -> dict[str, str]:
    """What a session needs at its start to look names up in the metastore, without any secret."""
    return {
        "spark.sql.catalogImplementation": "hive",
        # Not the layers' own folders: DROP DATABASE removes the folder of a database with all that is in it.
        "spark.sql.warehouse.dir": f"{config.storage.location}/_warehouse",
        # JDBC clients list columns from the metastore; Delta alone would leave them in its own log.
        "spark.databricks.delta.catalog.update.enabled": "true",
    }


def connection_properties(catalog: Catalog) -> dict[str, str]:
    """Hadoop properties that lead to the metastore's database, its password among them.

    Apart from `metastore_settings`, because what a session gets at its start is on a command line.
    """
    assert catalog.url is not None
    driver = next(name for start, name in _DRIVERS.items() if catalog.url.startswith(start))
    found = {
        "javax.jdo.option.ConnectionURL": catalog.url,
        "javax.jdo.option.ConnectionDriverName": driver,
        "datanucleus.connectionPoolingType": "DBCP",
        # The metastore's tables are made at the first start: all before the first transaction. One that were
        # made later, beside a transaction that has read what it refers to, would wait for that without end.
        "datanucleus.schema.autoCreateAll": "true",
        "datanucleus.autoStartMechanism": "Classes",
        "datanucleus.autoStartClassNames": ",".join(f"{_MODEL}.{name}" for name in _METASTORE_CLASSES),
        "hive.metastore.schema.verification": "false",
        # A database that is down is told at once: the clients try again by themselves.
        "hive.hmshandler.retry.attempts": "1",
    }
    if catalog.username is not None:
        found["javax.jdo.option.ConnectionUserName"] = catalog.username
    if catalog.password is not None:
        found["javax.jdo.option.ConnectionPassword"] = catalog.password
    return found
