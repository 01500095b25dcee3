{{- define "source.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "source.selector" -}}
app: {{ include "source.name" . }}
{{- end -}}

{{- define "source.podLabels" -}}
{{ include "source.selector" . }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* All but the component. */}}
{{- define "source.commonLabels" -}}
{{ include "source.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "source.labels" -}}
{{ include "source.commonLabels" . }}
app.kubernetes.io/component: source
{{- end -}}

{{- define "source.metadata" -}}
name: {{ include "source.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "source.labels" . | nindent 2 }}
{{- end -}}

{{/* "yes" if the journal is in PostgreSQL. */}}
{{- define "source.shared" -}}
{{- if regexMatch "^postgres(ql)?://" (toString (default "" .Values.settings.journal)) -}}yes{{- end -}}
{{- end -}}

{{- define "source.several" -}}
{{- if or (gt (int .Values.replicas) 1) .Values.keda.enabled -}}yes{{- end -}}
{{- end -}}

{{- define "source.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "source.name" .) -}}
{{- else -}}
{{- /* By name: where there was one, a Deployment without a name keeps it in a deprecated field. */ -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The settings, with what the chart adds: where it mounts the secrets, and a drain that cuts no call off. */}}
{{- define "source.settings" -}}
{{- $settings := dict -}}
{{- range $key, $value := .Values.settings -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $settings $key $value -}}{{- end -}}
{{- end -}}
{{- if not (or (hasKey $settings "token") (hasKey $settings "token_file")) -}}
{{- $_ := set $settings "token_file" (printf "/run/secrets/source-chatgpt/%s" .Values.token.key) -}}
{{- end -}}
{{- if include "source.shared" . -}}
{{- if not (hasKey $settings "journal_password") -}}
{{- $file := printf "/run/secrets/source-chatgpt-journal/%s" .Values.journalPassword.key -}}
{{- $_ := set $settings "journal_password" (dict "file" $file) -}}
{{- end -}}
{{- if not (hasKey $settings "drain_timeout") -}}
{{- $call := 120 -}}
{{- if hasKey $settings "openai_timeout" -}}{{- $call = get $settings "openai_timeout" -}}{{- end -}}
{{- $_ := set $settings "drain_timeout" (addf 30 $call | ceil | int) -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* "yes" if the Secret of the model's key is needed: it is named, or a setting names a file of it. */}}
{{- define "source.token" -}}
{{- if or .Values.token.secret (contains "/run/secrets/source-chatgpt/" (include "source.settings" .)) -}}yes{{- end -}}
{{- end -}}

{{/* The same of the Secret of the database's password. */}}
{{- define "source.journalPassword" -}}
{{- $named := or .Values.journalPassword.secret (contains "/run/secrets/source-chatgpt-journal/" (include "source.settings" .)) -}}
{{- if and $named (include "source.shared" .) -}}yes{{- end -}}
{{- end -}}

{{- define "source.grace" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- $settings := include "source.settings" . | fromYaml -}}
{{- $drain := 8 -}}
{{- if hasKey $settings "drain_timeout" -}}{{- $drain = get $settings "drain_timeout" -}}{{- end -}}
{{- $sleep := ternary .Values.preStopSeconds 0 (eq (include "source.shared" .) "yes") -}}
{{- max 30 (addf $drain $sleep 20 | ceil | int) -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* The port of an endpoint string like tcp:9464 or ssl:port=8443:…, else nothing. */}}
{{- define "source.portOf" -}}
{{- $start := regexFind "^(tcp6?|ssl):(port=)?[0-9]+" . -}}
{{- regexFind "[0-9]+$" $start -}}
{{- end -}}

{{/* "yes" if an endpoint string names a loopback address, which only the pod itself reaches. */}}
{{- define "source.loopback" -}}
{{- if regexMatch `[:=](127\.|localhost|\\:\\:1(:|$))` . -}}yes{{- end -}}
{{- end -}}

{{- define "source.adminPort" -}}
{{- include "source.portOf" (toString (default "" .Values.settings.admin)) -}}
{{- end -}}

{{- define "source.port" -}}
{{- if .Values.settings.listen -}}
{{- include "source.portOf" (toString .Values.settings.listen) -}}
{{- else -}}
{{- int (default 8080 .Values.settings.port) -}}
{{- end -}}
{{- end -}}

{{/* What a probe of a path does; a port that asks for clients' certificates refuses all but a connection. */}}
{{- define "source.probe" -}}
{{- $listen := toString (default "" .root.Values.settings.listen) -}}
{{- if and (hasPrefix "ssl:" $listen) (contains ":clientCA=" $listen) -}}
tcpSocket:
  port: http
{{- else -}}
httpGet:
  path: {{ .path }}
  port: http
  {{- if hasPrefix "ssl:" $listen }}
  scheme: HTTPS
  {{- end }}
{{- end -}}
{{- end -}}
