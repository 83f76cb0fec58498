push:
  runner.pending.deliver:
    - tgt: {{ data['id'] }}
