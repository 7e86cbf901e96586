"""Invent words to use in place of class names, so that the models learn to expect any name there."""

import random

from fieldmarks.demo.species import all_species

_ONSETS = "b,bl,br,c,cl,cr,d,dr,f,fl,fr,g,gl,gr,h,j,k,kl,kr,l,m,n,p,pl,pr,qu,r,s,sk,sm,st,t,tr,v,w,y,z"
_NUCLEI = "a,e,i,o,u,oo,ee,ai"
_CODAS = ",b,ck,d,g,ll,m,n,p,r,rn,sk,t,x,zz"


def invented_word(rng: random.Random) -> str:
    """Return a pronounceable word of two or three syllables that is not a species name."""
    while True:
        parts = (_ONSETS, _NUCLEI, _CODAS) * rng.randint(2, 3)
        word = "".join(rng.choice(part.split(",")) for part in parts)
        if word not in all_species():
            return word
