{{- define "mypay.labels" -}}
app.kubernetes.io/part-of: mypay
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
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
{{- $found = append $found (dict "stage" $stage "values" $values "network" $network "name" (printf "%s-%s" $stage.name $network)) -}}
{{- end -}}
{{- else -}}
{{- $found = append $found (dict "stage" $stage "values" $values "network" "" "name" $stage.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "processes" $found) -}}
{{- end }}

{{- define "mypay.dsn" -}}
postgresql://{{ .user }}@{{ .postgres.host }}:{{ .postgres.port }}/{{ .postgres.database }}?sslmode=verify-full&sslrootcert=/etc/mypay/postgres-ca/ca.crt&sslcert=/etc/mypay/postgres/tls.crt&sslkey=/etc/mypay/postgres/tls.key
{{- end }}
