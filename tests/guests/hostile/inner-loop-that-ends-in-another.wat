;; ends: Timeout
(func $f (param $n i32)
  (loop $a (loop $b (loop $c (br_if $c (i32.eqz (local.get $n))) (br $b)))))
(func $attack
  (call $f (i32.const 0)))
