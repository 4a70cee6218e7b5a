;; ends: Timeout
(type $t (func))
(table funcref (elem $f))
(func $f)
(func $attack
  (loop $l (call_indirect (type $t) (i32.const 0)) (br $l)))
