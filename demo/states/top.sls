base:
  'G@role:rfid':
    - rfid
