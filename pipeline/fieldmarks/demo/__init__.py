"""The offline world: invented species, drawings of them, and two small models that know them."""
