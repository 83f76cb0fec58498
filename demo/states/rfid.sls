{% set image = pillar['registry'] ~ '/fleet/rfid:' ~ grains['channel'] %}
{{ image }}:
  docker_image.present:
    - force: True
rfid:
  docker_container.running:
    - image: {{ image }}
    - binds:
      - {{ pillar['rfid_device'] }}:{{ pillar['rfid_device'] }}
    - environment:
      - RCAGGREGATOR: aggregator:9091
      - POWER_API: power:80
    - restart_policy: unless-stopped
    - require:
      - docker_image: {{ image }}
