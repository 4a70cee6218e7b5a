;; ends: Timeout
(func $attack
  (loop $a (br_if $a (i32.const 0)))
  (loop $b (br $b)))
