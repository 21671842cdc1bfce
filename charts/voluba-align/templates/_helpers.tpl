{{- define "voluba-align.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "voluba-align.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- $name := include "voluba-align.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "voluba-align.selectorLabels" -}}
app.kubernetes.io/name: {{ include "voluba-align.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "voluba-align.gatewaySelectorLabels" -}}
app.kubernetes.io/name: {{ include "voluba-align.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "voluba-align.gatewayName" -}}
{{- printf "%s-gateway" (include "voluba-align.fullname" .) }}
{{- end }}

{{- define "voluba-align.labels" -}}
app.kubernetes.io/name: {{ include "voluba-align.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: voluba
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "voluba-align.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "voluba-align.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "voluba-align.gatewayServiceAccountName" -}}
{{- default (include "voluba-align.gatewayName" .) .Values.gateway.serviceAccountName }}
{{- end }}

{{- define "voluba-align.staticDataClaim" -}}
{{- if .Values.staticData.existingClaim -}}
{{- .Values.staticData.existingClaim }}
{{- else -}}
{{- default (printf "%s-static-data" (include "voluba-align.fullname" .)) .Values.staticData.claimName }}
{{- end }}
{{- end }}

{{- /* SHA-256 of a template: its own, or that of the file that is loaded to its path. */}}
{{- define "voluba-align.templateDigest" -}}
{{- $digest := default "" .template.sha256 -}}
{{- $path := .template.path -}}
{{- range .context.Values.staticData.load.files -}}
{{- if eq $path (printf "current/%s" .path) -}}
{{- if and $digest (ne $digest .sha256) -}}
{{- fail (printf "templates: %q has the sha256 %s, but %s is loaded to its path" $path $digest .sha256) -}}
{{- end -}}
{{- $digest = .sha256 -}}
{{- end -}}
{{- end -}}
{{- $digest -}}
{{- end }}

{{- /* Full name of an image: dict "image" <values> "context" <root>. */}}
{{- define "voluba-align.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .context.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{- /* Security context of every container: Pod Security "restricted", no user or group number. */}}
{{- define "voluba-align.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* What the operator may do with requests and their Jobs, wherever it serves them. */}}
{{- define "voluba-align.rules" -}}
- apiGroups: [voluba.ebrains.eu]
  resources: [alignmentrequests, depthmaprequests]
  verbs: [list, watch]
- apiGroups: [voluba.ebrains.eu]
  resources: [alignmentrequests/status, depthmaprequests/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* The operator's own business, in the release's namespace only. */}}
{{- define "voluba-align.leaseRule" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end }}

{{- /* What the gateway may do, in the release's namespace only. It makes and deletes Secrets, but reads none. */}}
{{- define "voluba-align.gatewayRules" -}}
- apiGroups: [voluba.ebrains.eu]
  resources: [alignmentrequests, depthmaprequests]
  verbs: [create, list, watch, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [voluba-align-operator]
  verbs: [get]
{{- end }}

{{- /* Who a token was given to, where the cluster says it. */}}
{{- define "voluba-align.gatewayClusterRules" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
{{- end }}

{{/* Certificate authorities of the installation: the option, the mount, the volume. Nothing without. */}}
{{- define "voluba-align.authoritiesOption" -}}
{{- if .Values.certificateAuthorities.configMap }}
- --ca-file=/authorities/ca-bundle.crt
{{- end }}
{{- end }}
{{- define "voluba-align.authoritiesMount" -}}
{{- if .Values.certificateAuthorities.configMap }}
- {name: authorities, mountPath: /authorities, readOnly: true}
{{- end }}
{{- end }}
{{- define "voluba-align.authoritiesVolume" -}}
{{- with .Values.certificateAuthorities }}
{{- if .configMap }}
- name: authorities
  configMap:
    name: {{ .configMap }}
    items: [{key: {{ .key }}, path: ca-bundle.crt}]
{{- end }}
{{- end }}
{{- end }}
