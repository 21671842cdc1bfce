{{- define "voluba-align.dnsPorts" -}}
{{- range .Values.networkPolicy.dnsPorts }}
- {protocol: UDP, port: {{ . }}}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end }}

{{- /* Egress rules of aligner pods: DNS and the allowed origins, then those of the values. */}}
{{- define "voluba-align.alignerEgress" -}}
{{- if .Values.allowedOrigins }}
- ports: {{- include "voluba-align.dnsPorts" . | trim | nindent 2 }}
{{ include "voluba-align.originEgress" . | trim }}
{{- end }}
{{- with .Values.networkPolicy.alignerEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* One egress rule for each port of the allowed origins. A policy knows no host names, so the program
itself keeps to the names and addresses. */}}
{{- define "voluba-align.originEgress" -}}
{{- include "voluba-align.egressTo" .Values.allowedOrigins }}
{{- end }}

{{- /* The same for a list of origins. */}}
{{- define "voluba-align.egressTo" -}}
{{- $seen := dict }}
{{- range . }}
{{- $scheme := ternary "443" "80" (hasPrefix "https:" .origin) }}
{{- $port := regexFind ":[0-9]+$" .origin | trimPrefix ":" | default $scheme }}
{{- $key := printf "%s %t" $port (default false .private) }}
{{- if not (hasKey $seen $key) }}
{{- $_ := set $seen $key true }}
- ports:
  - {protocol: TCP, port: {{ $port }}}
  {{- if not .private }}
  to:
  - ipBlock:
      cidr: 0.0.0.0/0
      except: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3]
  - ipBlock:
      cidr: "::/0"
      except: ["::/8", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8"]
  {{- end }}
{{- end }}
{{- end }}
{{- end }}
