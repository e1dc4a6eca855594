package mixin

import "encoding/json"

type object = map[string]any

// dashboard is the dashboard in the format of Grafana 10 and later.
func dashboard() ([]byte, error) {
	source := object{"type": "prometheus", "uid": "${datasource}"}
	var panels []object
	y, id := 0, 0
	add := func(p object) {
		id++
		p["id"] = id
		panels = append(panels, p)
	}
	for _, r := range rows {
		add(object{"type": "row", "title": r.title, "collapsed": false, "panels": []object{}, "gridPos": object{"x": 0, "y": y, "w": 24, "h": 1}})
		y++
		for i, p := range r.panels {
			// Three in the first line of a row, and two in the second one.
			w, x := 8, 8*i
			if i >= 3 {
				w, x = 12, 12*(i-3)
			}
			var targets []object
			for n, q := range p.queries {
				targets = append(targets, object{"datasource": source, "expr": q.expr, "legendFormat": q.legend, "refId": string(rune('A' + n))})
			}
			add(object{
				"type": "timeseries", "title": p.title, "description": p.help, "datasource": source, "targets": targets,
				"gridPos":     object{"x": x, "y": y + 8*(i/3), "w": w, "h": 8},
				"fieldConfig": object{"defaults": object{"unit": p.unit, "min": 0}, "overrides": []object{}},
				"options":     object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi"}},
			})
		}
		y += 16
	}
	text, err := json.MarshalIndent(object{
		"title": "etcdlock", "uid": "etcdlock", "tags": []string{"etcdlock"}, "schemaVersion": 39, "editable": true,
		"time": object{"from": "now-1h", "to": "now"}, "refresh": "30s", "panels": panels,
		"templating": object{"list": []object{
			{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
			{"name": "job", "type": "query", "datasource": source, "query": "label_values(etcdlock_session_count, job)",
				"refresh": 2, "multi": true, "includeAll": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"}},
		}},
		"annotations": object{"list": []object{{
			"name": "Alerts", "datasource": source, "enable": true, "iconColor": "red",
			"expr": `ALERTS{alertname=~"Etcdlock.*",alertstate="firing"}`, "titleFormat": "{{alertname}}", "textFormat": "{{name}} {{instance}}",
		}}},
	}, "", "  ")
	return append(text, '\n'), err
}
