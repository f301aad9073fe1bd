#!/bin/sh
# Made by `mypay topics acl --print` from schemas/topics.py; do not edit.
# Safe to run again.
# BOOTSTRAP: host:port. COMMAND_CONFIG: properties of a super user. KAFKA_BIN: folder of Kafka's tools.
set -eu
acls() {
  "${KAFKA_BIN:-.}/kafka-acls.sh" --bootstrap-server "$BOOTSTRAP" --command-config "$COMMAND_CONFIG" --add "$@"
}
quota() {
  "${KAFKA_BIN:-.}/kafka-configs.sh" --bootstrap-server "$BOOTSTRAP" --command-config "$COMMAND_CONFIG" \
    --alter --entity-type users --entity-name "$1" --add-config "$2"
}

acls --allow-principal 'User:mypay-clearing-import' --operation Write --topic 'mypay.clearing.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-clearing-import' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal

acls --allow-principal 'User:mypay-consents' --operation Read --group 'mypay-consents' --resource-pattern-type literal
acls --allow-principal 'User:mypay-consents' --operation Read --group 'mypay-consents:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-consents' --operation Read --topic 'mypay.consents.commands' --resource-pattern-type literal
acls --allow-principal 'User:mypay-consents' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal

acls --allow-principal 'User:mypay-execution-bcard' --operation Read --group 'mypay-execution-bcard' --resource-pattern-type literal
acls --allow-principal 'User:mypay-execution-bcard' --operation Read --group 'mypay-execution-bcard:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-execution-bcard' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal
acls --allow-principal 'User:mypay-execution-bcard' --operation Read --topic 'mypay.dispatch.bcard' --resource-pattern-type literal

acls --allow-principal 'User:mypay-finance' --operation Read --group 'mypay-finance' --resource-pattern-type literal
acls --allow-principal 'User:mypay-finance' --operation Read --group 'mypay-finance:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-finance' --operation Read --topic 'mypay.disclosure.roots' --resource-pattern-type literal
acls --allow-principal 'User:mypay-finance' --operation Read --topic 'mypay.marketing.aggregates' --resource-pattern-type literal
acls --allow-principal 'User:mypay-finance' --operation Read --topic 'mypay.settlements' --resource-pattern-type literal

acls --allow-principal 'User:mypay-initiation' --operation Describe --group 'mypay-execution-' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-initiation' --operation Read --group 'mypay-initiation' --resource-pattern-type literal
acls --allow-principal 'User:mypay-initiation' --operation Read --group 'mypay-initiation:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-initiation' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal
acls --allow-principal 'User:mypay-initiation' --operation Write --topic 'mypay.dispatch.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-initiation' --operation Read --topic 'mypay.orders' --resource-pattern-type literal
acls --allow-principal 'User:mypay-initiation' --operation Read --operation Write --topic 'mypay.waiting-orders' --resource-pattern-type literal

acls --allow-principal 'User:mypay-marketing' --operation Read --group 'mypay-marketing' --resource-pattern-type literal
acls --allow-principal 'User:mypay-marketing' --operation Read --group 'mypay-marketing:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-marketing' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal
acls --allow-principal 'User:mypay-marketing' --operation Read --topic 'mypay.marketing.uses' --resource-pattern-type literal

acls --allow-principal 'User:mypay-ops' --operation Describe --operation DescribeConfigs --cluster
acls --allow-principal 'User:mypay-ops' --operation Describe --group 'mypay-' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-ops' --operation Read --group 'mypay-ops' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Read --group 'mypay-ops:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-ops' --operation Alter --operation AlterConfigs --operation Create --operation Describe --operation DescribeConfigs --topic 'mypay.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-ops' --operation Write --topic 'mypay.clearing.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-ops' --operation Write --topic 'mypay.consents.commands' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Read --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Read --topic 'mypay.disclosure.roots' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Write --topic 'mypay.dispatch.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-ops' --operation Read --topic 'mypay.marketing.aggregates' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Write --topic 'mypay.marketing.uses' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Write --topic 'mypay.orders' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Write --topic 'mypay.portability.requests' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Read --topic 'mypay.settlements' --resource-pattern-type literal
acls --allow-principal 'User:mypay-ops' --operation Write --topic 'mypay.sharing-confirmations' --resource-pattern-type literal

acls --allow-principal 'User:mypay-partner-example-partner' --operation Read --group 'mypay-partner-example-partner' --resource-pattern-type literal
acls --allow-principal 'User:mypay-partner-example-partner' --operation Read --group 'mypay-partner-example-partner:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-partner-example-partner' --operation Write --topic 'mypay.consents.commands' --resource-pattern-type literal
acls --allow-principal 'User:mypay-partner-example-partner' --operation Read --topic 'mypay.disclosure.roots' --resource-pattern-type literal
acls --allow-principal 'User:mypay-partner-example-partner' --operation Read --topic 'mypay.events.example-partner' --resource-pattern-type literal
acls --allow-principal 'User:mypay-partner-example-partner' --operation Write --topic 'mypay.orders' --resource-pattern-type literal
acls --allow-principal 'User:mypay-partner-example-partner' --operation Write --topic 'mypay.portability.requests' --resource-pattern-type literal
acls --allow-principal 'User:mypay-partner-example-partner' --operation Write --transactional-id 'mypay-partner-example-partner' --resource-pattern-type literal
acls --allow-principal 'User:mypay-partner-example-partner' --operation Write --transactional-id 'mypay-partner-example-partner:' --resource-pattern-type prefixed

acls --allow-principal 'User:mypay-portability' --operation Read --group 'mypay-portability' --resource-pattern-type literal
acls --allow-principal 'User:mypay-portability' --operation Read --group 'mypay-portability:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-portability' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal
acls --allow-principal 'User:mypay-portability' --operation Write --topic 'mypay.portability.exports.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-portability' --operation Read --topic 'mypay.portability.requests' --resource-pattern-type literal

acls --allow-principal 'User:mypay-relay' --operation Write --topic 'mypay.disclosure.roots' --resource-pattern-type literal
acls --allow-principal 'User:mypay-relay' --operation Write --topic 'mypay.events.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-relay' --operation Write --topic 'mypay.marketing.aggregates' --resource-pattern-type literal
acls --allow-principal 'User:mypay-relay' --operation Write --topic 'mypay.marketing.offers.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-relay' --operation Write --topic 'mypay.portability.exports.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-relay' --operation Write --topic 'mypay.settlements' --resource-pattern-type literal
acls --allow-principal 'User:mypay-relay' --operation Write --topic 'mypay.sharing.' --resource-pattern-type prefixed

acls --allow-principal 'User:mypay-schedule' --operation Describe --group 'mypay-execution-' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-schedule' --operation Write --topic 'mypay.dispatch.' --resource-pattern-type prefixed

acls --allow-principal 'User:mypay-settlement' --operation Read --group 'mypay-settlement' --resource-pattern-type literal
acls --allow-principal 'User:mypay-settlement' --operation Read --group 'mypay-settlement:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-settlement' --operation Read --operation Write --topic 'mypay.clearing.' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-settlement' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal

acls --allow-principal 'User:mypay-sharing' --operation Read --group 'mypay-sharing' --resource-pattern-type literal
acls --allow-principal 'User:mypay-sharing' --operation Read --group 'mypay-sharing:' --resource-pattern-type prefixed
acls --allow-principal 'User:mypay-sharing' --operation Write --topic 'mypay.dead-letter' --resource-pattern-type literal
acls --allow-principal 'User:mypay-sharing' --operation Read --topic 'mypay.sharing-confirmations' --resource-pattern-type literal

quota 'mypay-partner-example-partner' 'producer_byte_rate=262144,consumer_byte_rate=16777216,request_percentage=50'
