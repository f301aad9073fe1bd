{{- define "mypay.labels" -}}
app.kubernetes.io/part-of: mypay
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Kubernetes' names have neither capitals nor "_". */ -}}
{{- define "mypay.name" -}}
{{ lower . | replace "_" "-" }}
{{- end }}

{{- define "mypay.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* One entry a process: the stage with its values, and its network. */ -}}
{{- define "mypay.processes" -}}
{{- $root := . -}}
{{- $found := list -}}
{{- range $stage := .Files.Get "files/stages.yaml" | fromYamlArray -}}
{{- $values := mergeOverwrite (deepCopy $root.Values.stages.default) (deepCopy (index $root.Values.stages $stage.name | default dict)) -}}
{{- if $values.enabled -}}
{{- if $stage.perNetwork -}}
{{- range $network, $_ := $root.Values.networks -}}
{{- $found = append $found (dict "stage" $stage "values" $values "network" $network "name" (include "mypay.name" (printf "%s-%s" $stage.name $network))) -}}
{{- end -}}
{{- else -}}
{{- $found = append $found (dict "stage" $stage "values" $values "network" "" "name" $stage.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "processes" $found) -}}
{{- end }}

{{- /* Strimzi's names of a cluster's own, where none are given. */ -}}
{{- define "mypay.kafkaServers" -}}
{{ .Values.kafka.bootstrapServers | default (printf "%s-kafka-bootstrap:9093" .Values.kafka.strimzi.cluster) }}
{{- end }}

{{- define "mypay.kafkaCa" -}}
{{ .Values.kafka.clusterCaSecret | default (printf "%s-cluster-ca-cert" .Values.kafka.strimzi.cluster) }}
{{- end }}

{{- /* A database user's address; its certificate is in `folder`. */ -}}
{{- define "mypay.dsn" -}}
postgresql://{{ .user }}@{{ .postgres.host }}:{{ .postgres.port }}/{{ .postgres.database }}?sslmode=verify-full&sslrootcert=/etc/mypay/postgres-ca/ca.crt&sslcert={{ .folder }}/tls.crt&sslkey={{ .folder }}/tls.key
{{- end }}

{{- define "mypay.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "mypay.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Of several pods of one name no two on one machine, where that can be. */ -}}
{{- define "mypay.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      app.kubernetes.io/name: {{ . }}
{{- end }}

{{- /* Keys must be readable by their owner alone: what Kubernetes mounts is the group's, too. With networks' keys of seals
       where they are `sealed`. */ -}}
{{- define "mypay.copySecrets" -}}
umask 077; copy() { mkdir -p $2; cp -L $1/* $2/; }; for d in /given/*; do copy $d /etc/mypay/$(basename $d); done; {{ if .sealed }}for d in /given-clearing/*; do copy $d /etc/mypay/clearing/$(basename $d); done; {{ end }}mkdir /etc/mypay/kafka; for d in /given-kafka/*; do for end in crt key; do cp -L $d/user.$end /etc/mypay/kafka/$(basename $d).$end; done; done
{{- end }}

{{- /* What every process is told. */ -}}
{{- define "mypay.environment" -}}
- {name: MYPAY_HTTP_HOST, value: "0.0.0.0"}
- {name: MYPAY_HTTP_PORT, value: "9100"}
- {name: MYPAY_NETWORKS_DIR, value: /etc/mypay-config/networks}
- {name: MYPAY_KAFKA_BOOTSTRAP_SERVERS, value: {{ include "mypay.kafkaServers" . | quote }}}
- {name: MYPAY_KAFKA_SECURITY_PROTOCOL, value: SSL}
- {name: MYPAY_KAFKA_SSL_CAFILE, value: /etc/mypay/kafka-ca/ca.crt}
- {name: MYPAY_KAFKA_CREDENTIALS_DIR, value: /etc/mypay/kafka}
{{- end }}

{{- define "mypay.probes" -}}
# A start waits for PostgreSQL and Kafka; what answers here is the process itself.
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- /* Settings with their values, a later list's before an earlier one's. A number stays as it is written: `quote` makes 1e+07 of
       ten million. */ -}}
{{- define "mypay.settings" -}}
{{- $all := dict -}}
{{- range . -}}
{{- $all = mergeOverwrite $all (deepCopy .) -}}
{{- end -}}
{{- range $name, $value := $all }}
- {name: {{ $name }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
{{- end }}
{{- end }}
