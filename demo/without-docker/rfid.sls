{# The story of rfid.sls where no Docker Engine can run: a file stands in for the container. #}
rfid:
  file.managed:
    - name: {{ grains['device_dir'] }}/rfid.conf
    - contents: |
        image: fleet/rfid:{{ grains['channel'] }}
        release: {{ pillar['releases'][grains['channel']] }}
        device: {{ pillar['rfid_device'] }}
