;; ends: Timeout
(func $attack
  (loop $l (br $l)))
