;; ends: Timeout
(func $g)
(func $attack
  (call $g)
  (loop $b (br $b)))
