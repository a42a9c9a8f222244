"""Apache ActiveMQ Artemis: two nodes, in one of two ways to make one broker of them.

``CLUSTER``: both serve clients, and hand on to each other what the other one's clients have subscribed to. A session is
on one node, so a client that is moved to the other node begins a new one there. ``PAIR``: one serves, and the other one
takes over its journal, and so its sessions, when it ends.
"""

import enum
from collections.abc import Mapping
from pathlib import Path

from demo.ports import HOST, free_port
from demo.program import Program
from tests.brokers import maven
from tests.brokers.stores import PASSWORD, Stores

_MEMORY = ("-Xms64M", "-Xmx320M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Way(enum.Enum):
    """How two nodes make one broker."""

    CLUSTER = "cluster"
    PAIR = "primary and backup"


class Artemis:
    """Two nodes. Each has a port for MQTT with TLS, which requires a certificate of the authority."""

    def __init__(self, folder: Path, stores: Stores, way: Way) -> None:
        self._folder, self._stores, self._way = folder, stores, way
        self.ports = [free_port(), free_port()]
        self._cluster_ports = [free_port(), free_port()]
        self._home, self._java = maven.artemis(), maven.java()
        self.programs = [self._make(number) for number in range(2)]

    def _make(self, number: int) -> Program:
        instance = self._folder / f"node-{number + 1}"
        etc = instance / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        (instance / "tmp").mkdir(exist_ok=True)
        files = {
            "broker.xml": self._broker(number, instance),
            "bootstrap.xml": _BOOTSTRAP.format(etc=etc),
            "login.config": _LOGIN,
            "management.xml": _MANAGEMENT,
            "cert-users.properties": "client=/CN=.*/\n",
            "cert-roles.properties": "clients=client\n",
            "log4j2.properties": _LOG,
        }
        for name, text in files.items():
            (etc / name).write_text(text)
        command = [
            self._java,
            *_MEMORY,
            *("-classpath", str(self._home / "lib" / "artemis-boot.jar")),
            f"-Dartemis.home={self._home}",
            f"-Dartemis.instance={instance}",
            f"-Dartemis.instance.etc={etc}",
            f"-Dartemis.instance.etc.uri=file:{etc}/",
            f"-Djava.security.auth.login.config={etc / 'login.config'}",
            f"-Dlog4j2.configurationFile=file:{etc / 'log4j2.properties'}",
            f"-Djava.io.tmpdir={instance / 'tmp'}",
            "org.apache.activemq.artemis.boot.Artemis",
            "run",
        ]
        environ: Mapping[str, str] = {"PATH": str(Path(self._java).parent), "ARTEMIS_INSTANCE": str(instance)}
        return Program(f"artemis-{number + 1}", command, environ, self._folder / f"artemis-{number + 1}.log")

    def _broker(self, number: int, instance: Path) -> str:
        is_pair = self._way is Way.PAIR
        data = self._folder / "shared" if is_pair else instance / "data"
        role = ("primary", "backup")[number]
        options = "" if number == 0 else "<allow-failback>false</allow-failback>"
        policy = f"<ha-policy><shared-store><{role}>{options}</{role}></shared-store></ha-policy>"
        tls = (
            f"sslEnabled=true;needClientAuth=true;keyStorePath={self._stores.keys};keyStorePassword={PASSWORD};"
            f"trustStorePath={self._stores.trusted};trustStorePassword={PASSWORD};keyStoreType=PKCS12;"
            "trustStoreType=PKCS12"
        )
        return _BROKER.format(
            name=f"node-{number + 1}",
            data=data,
            policy=policy if is_pair else "",
            own=f"tcp://{HOST}:{self._cluster_ports[number]}",
            other=f"tcp://{HOST}:{self._cluster_ports[1 - number]}",
            mqtt=f"tcp://{HOST}:{self.ports[number]}?protocols=MQTT;{tls}",
        )


def is_spare(log: str) -> bool:
    """Return whether a node is ready to take over, according to its log since it was started last."""
    return "AMQ221031: backup announced" in log.rpartition("AMQ221000")[2]


_BOOTSTRAP = """<broker xmlns="http://activemq.apache.org/schema">
  <jaas-security domain="activemq" certificate-domain="certificates"/>
  <server configuration="file:{etc}/broker.xml"/>
</broker>
"""
_MANAGEMENT = """<management-context xmlns="http://activemq.apache.org/schema"/>
"""
_LOGIN = """activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.GuestLoginModule required
    org.apache.activemq.jaas.guest.user="will"
    org.apache.activemq.jaas.guest.role="wills";
};
certificates {
  org.apache.activemq.artemis.spi.core.security.jaas.TextFileCertificateLoginModule required
    org.apache.activemq.jaas.textfiledn.user="cert-users.properties"
    org.apache.activemq.jaas.textfiledn.role="cert-roles.properties";
};
"""
"""The first domain is for clients without a certificate. There are none, but the broker publishes the last will of a
client when the connection with its certificate is gone."""
_LOG = """rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
logger.server.name = org.apache.activemq.artemis.core.server
logger.server.level = INFO
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5level %logger{1.} %msg%n%throwable
"""
_BROKER = """<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>{name}</name>
    <persistence-enabled>true</persistence-enabled>
    <journal-type>NIO</journal-type>
    <paging-directory>{data}/paging</paging-directory>
    <bindings-directory>{data}/bindings</bindings-directory>
    <journal-directory>{data}/journal</journal-directory>
    <large-messages-directory>{data}/large</large-messages-directory>
    <journal-file-size>2M</journal-file-size>
    <journal-pool-files>4</journal-pool-files>
    <global-max-size>100M</global-max-size>
    <critical-analyzer>false</critical-analyzer>
    <cluster-user>node</cluster-user>
    <cluster-password>facewire</cluster-password>
    {policy}
    <connectors>
      <connector name="own">{own}</connector>
      <connector name="other">{other}</connector>
    </connectors>
    <acceptors>
      <acceptor name="cluster">{own}?protocols=CORE</acceptor>
      <acceptor name="mqtt">{mqtt}</acceptor>
    </acceptors>
    <cluster-connections>
      <cluster-connection name="nodes">
        <connector-ref>own</connector-ref>
        <retry-interval>500</retry-interval>
        <message-load-balancing>ON_DEMAND</message-load-balancing>
        <max-hops>1</max-hops>
        <static-connectors><connector-ref>other</connector-ref></static-connectors>
      </cluster-connection>
    </cluster-connections>
    <security-settings>
      <security-setting match="#">
        <permission type="createAddress" roles="clients"/>
        <permission type="deleteAddress" roles="clients"/>
        <permission type="createNonDurableQueue" roles="clients"/>
        <permission type="deleteNonDurableQueue" roles="clients"/>
        <permission type="createDurableQueue" roles="clients"/>
        <permission type="deleteDurableQueue" roles="clients"/>
        <permission type="send" roles="clients"/>
        <permission type="consume" roles="clients"/>
        <permission type="browse" roles="clients"/>
      </security-setting>
      <security-setting match="devices.#">
        <permission type="createAddress" roles="clients,wills"/>
        <permission type="deleteAddress" roles="clients"/>
        <permission type="createNonDurableQueue" roles="clients"/>
        <permission type="deleteNonDurableQueue" roles="clients"/>
        <permission type="createDurableQueue" roles="clients"/>
        <permission type="deleteDurableQueue" roles="clients"/>
        <permission type="send" roles="clients,wills"/>
        <permission type="consume" roles="clients"/>
        <permission type="browse" roles="clients"/>
      </security-setting>
    </security-settings>
    <address-settings>
      <address-setting match="#">
        <redistribution-delay>0</redistribution-delay>
        <max-size-bytes>-1</max-size-bytes>
      </address-setting>
    </address-settings>
  </core>
</configuration>
"""
